"""Backup, restore and deletion of runs."""
