"""Arrivals: files dropped into an inbox, and which of them can be taken."""
