"""Judge: what a foreign training command really did, decided at its end."""
