"""The watch over a command: what its processes do, its rhythm, silences and stalls."""
