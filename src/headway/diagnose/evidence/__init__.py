"""Evidence: what processes, threads and the machine are doing, read from outside."""
