"""Watched runs: training by another program, as far as Headway saw it."""
