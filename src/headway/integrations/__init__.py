"""Integrations: the checks and proofs of a run inside other trainers."""
