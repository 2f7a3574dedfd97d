"""Copies of runs to go back to, and the end of a run: backup, restore, deletion."""
