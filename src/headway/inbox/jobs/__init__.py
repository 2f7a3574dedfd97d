"""Jobs of an inbox: one for each file taken, from the claim to its receipt."""
