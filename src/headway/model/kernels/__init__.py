"""Kernels: the operations that most of a step goes to."""
