"""Evidence: what processes, their threads and the machine do, read from outside."""
