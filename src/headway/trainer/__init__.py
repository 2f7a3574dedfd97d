"""From a plan to weights."""
