"""Filters tuned to one sequence: what is tuned, how, the coded update, and streams that carry it."""
