"""Shapes and weights; does not know data."""
