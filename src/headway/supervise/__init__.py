"""Supervision: starting, watching and stopping a run's processes."""
