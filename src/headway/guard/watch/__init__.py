"""Watch over a command: its processes, rhythm, silences and stalls."""
