"""Traces: what a command left on disk and in its output, read within limits."""
