"""Rows of tokens packed into dense micro-batches."""
