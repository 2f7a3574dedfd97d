"""Export: weights for other programs, compared there with the model that was trained."""
