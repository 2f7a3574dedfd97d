"""Host facts for a run: installed packages, limits, and other work on the machine."""
