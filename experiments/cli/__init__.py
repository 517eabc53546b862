"""The command line: each command parses, calls a documented function, and prints what that returns."""
