"""Fields of a row: what each one means, by subject."""
