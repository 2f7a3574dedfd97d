"""The guarded command: lookup, start, and forwarding of its output and signals."""
