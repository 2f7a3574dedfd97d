"""Weights in 4 bits and moments in 8, through bitsandbytes."""
