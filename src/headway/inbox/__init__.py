"""Inbox: a folder whose files are learned one after the other, each exactly once."""
