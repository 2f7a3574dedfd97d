"""Kernels: the operations that take most of a step."""
