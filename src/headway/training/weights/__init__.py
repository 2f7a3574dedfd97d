"""Weights: initial weights and checkpoints."""
