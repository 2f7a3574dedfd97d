"""What a machine adds to a run: packages, limits, other work."""
