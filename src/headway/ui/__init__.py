"""Terminal output: plans, progress, receipts."""
