"""Supervision: start, watching and stop of a run's processes."""
