"""Attempts at a run: starting and following workers, replacing those that were killed."""
