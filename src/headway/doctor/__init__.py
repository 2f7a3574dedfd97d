"""Readiness of this machine to train."""
