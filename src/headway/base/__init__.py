"""Words every room may use."""
