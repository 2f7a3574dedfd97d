"""People and machines around a run."""
