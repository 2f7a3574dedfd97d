"""Diagnosis: why a process does not get on, from evidence to cause to fix."""
