"""Limits and error boundaries for input that other programs wrote."""
