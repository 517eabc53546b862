"""What noise in each tensor does to a network's outputs, and steps that follow from it."""
