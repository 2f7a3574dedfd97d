"""Rules of a check: each turns facts about a folder into findings with fixes."""
