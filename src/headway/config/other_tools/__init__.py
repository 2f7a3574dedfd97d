"""Other tools' words: what each setting, value and command of theirs means here."""
