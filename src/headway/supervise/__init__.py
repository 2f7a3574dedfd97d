"""Processes of a run: started, followed, stopped."""
