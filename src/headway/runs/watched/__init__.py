"""Watched runs: what Headway saw of training by another program."""
