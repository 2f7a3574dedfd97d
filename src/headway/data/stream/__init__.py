"""Data too large to read before step 1."""
