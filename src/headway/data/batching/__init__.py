"""Rows to dense micro-batches."""
