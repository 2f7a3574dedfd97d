"""Evaluation during training: losses, weight audit, samples."""
