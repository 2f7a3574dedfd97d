"""Check of a finished model folder, whoever trained it: facts of its files, and what they mean."""
