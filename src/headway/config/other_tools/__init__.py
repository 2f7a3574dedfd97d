"""Other tools' settings, values and commands, and their counterparts here."""
