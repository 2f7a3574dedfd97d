"""State of running jobs: private folders, pulses, and who runs what."""
