"""Limits and error boundaries for whatever was written elsewhere and is read here."""
