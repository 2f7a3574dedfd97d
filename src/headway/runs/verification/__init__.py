"""Verification of a receipt: every claim recomputed from the files of its run."""
