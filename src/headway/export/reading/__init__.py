"""Reading of what is exported: stored tensors, merged adapters, dequantized weights, end tokens."""
