"""Diagnosis: why a process is not making progress, from evidence to cause to fix."""
