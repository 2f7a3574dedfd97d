"""Neighbor: what an inbox leaves to the other programs of its machine."""
