"""Arrivals: what was dropped into an inbox, and what of it can be taken."""
