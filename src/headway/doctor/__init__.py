"""Whether this machine is ready to train."""
