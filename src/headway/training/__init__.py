"""A plan to weights."""
