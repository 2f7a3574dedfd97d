"""Rules of a check: each turns facts of a folder into findings, with the fix."""
