"""Integrations: Headway's checks and receipts inside other trainers."""
