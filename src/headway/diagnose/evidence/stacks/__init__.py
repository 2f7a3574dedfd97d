"""Stacks: the calls of every thread, read from outside."""
