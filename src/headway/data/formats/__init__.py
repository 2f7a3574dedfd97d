"""Data formats: records read from the bytes of a source."""
