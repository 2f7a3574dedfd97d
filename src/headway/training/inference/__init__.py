"""Inference with a trained model, in a process of its own."""
