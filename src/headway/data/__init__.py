"""Data pipeline: sources, records, examples, rows and batches."""
