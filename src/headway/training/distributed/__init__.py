"""Training with several workers: messages, sums of gradients, and the ranks below the root."""
