"""Neighbor: resources that an inbox leaves to other programs on its machine."""
