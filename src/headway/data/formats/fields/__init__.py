"""Fields of a row: what each of them means, by subject."""
