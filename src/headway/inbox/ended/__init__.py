"""Ended files: recorded, moved, told, and the command that runs after each."""
