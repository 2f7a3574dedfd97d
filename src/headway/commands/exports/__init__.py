"""Commands about models that leave: export, fine-tuning for a program, a check of any folder."""
