"""Inference with a trained model, in a separate process."""
