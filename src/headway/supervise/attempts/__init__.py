"""Attempts at a run: their workers started, followed, and replaced when they were killed."""
