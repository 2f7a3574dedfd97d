"""Measuring the data before a run."""
