"""Run files: plan, checkpoints, receipt and backups on disk."""
