"""Somebody's command: found, started as a shell would, its output and signals passed on."""
