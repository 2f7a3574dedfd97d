"""Supervision: the processes of a job, started, watched, stopped."""
