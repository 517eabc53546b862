"""What is measured: one file per experiment, and one way to run any of them."""
