"""Survey of the data before a run."""
