"""Stalls of a run's own processes: detection, explanation, and action."""
