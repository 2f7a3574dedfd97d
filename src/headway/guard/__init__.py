"""Guard: the watch of a run around any training command."""
