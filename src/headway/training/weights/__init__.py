"""Weights: those that a job starts from, and checkpoints."""
