"""Training: a plan in, weights out."""
