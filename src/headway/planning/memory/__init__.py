"""Peak memory of a run, and what a plan does to fit in it."""
