"""Recall: what the model still knows of the files before, and what follows from that."""
