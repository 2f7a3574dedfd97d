"""Judge: what a guarded command really did, decided when it ends."""
