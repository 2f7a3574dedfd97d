"""Kernel: what /proc has about processes, their threads, files, sockets and locks."""
