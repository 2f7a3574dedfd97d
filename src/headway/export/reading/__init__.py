"""Sources of an export: stored tensors, merged adapters, dequantized weights, end tokens."""
