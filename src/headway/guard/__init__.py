"""Guard: the same watch around any training command, whoever wrote it."""
