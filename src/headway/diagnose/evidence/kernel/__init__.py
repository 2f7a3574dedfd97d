"""Kernel: what /proc says about processes, threads, files, sockets and locks."""
