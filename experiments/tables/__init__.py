"""What is printed: rows to means, tables and their formats."""
