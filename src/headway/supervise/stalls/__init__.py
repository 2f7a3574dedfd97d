"""Stalls of a run's own processes: noticed early, explained, and acted upon late."""
