"""Export targets: the programs that weights are written for, and compared in."""
