"""Workers of a plan: how many there are, and how evenly a step keeps them busy."""
