"""Data, model and machine to a plan."""
