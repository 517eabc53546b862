"""Levels chosen by what they do to a network's output."""
