"""Commands about finished models: export, fine-tuning for a program, check of any folder."""
