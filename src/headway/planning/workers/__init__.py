"""Workers: how many a plan uses, and how evenly a step keeps them busy."""
