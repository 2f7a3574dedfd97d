"""Model shapes and weights; knows nothing of data."""
