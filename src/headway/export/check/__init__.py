"""Check of a finished model folder from any trainer: facts about its files, and findings."""
