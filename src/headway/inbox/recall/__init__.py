"""Recall: what the model still knows of earlier files, and what follows from that."""
