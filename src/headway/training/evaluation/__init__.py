"""Evaluation of a model in training: losses, weight audit, samples."""
