"""Sharded training: each worker in a group holds a part of every weight."""
