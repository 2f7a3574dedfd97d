"""Rules: each turns traces of a command into findings."""
