"""Examples: the token ids of records, and which of them count in the loss."""
