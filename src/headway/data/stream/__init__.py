"""Streaming of data too large to read before step 1."""
