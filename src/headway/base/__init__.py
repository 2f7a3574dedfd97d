"""Shared utilities that every package may import."""
