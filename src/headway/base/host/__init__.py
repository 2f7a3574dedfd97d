"""Host facts: installed packages, limits, and other load on the machine."""
