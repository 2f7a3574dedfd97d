"""Causes of a stall, one row each, by subject."""
