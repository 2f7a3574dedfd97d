"""Foreign things: what was written elsewhere and is read here."""
