"""Guard: the same watch around any training command."""
