"""Model shapes and weights, independent of the data."""
