"""Export: weights for other programs, compared there with the trained model."""
