"""What the bytes of a source mean: records."""
