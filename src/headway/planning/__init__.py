"""Planning: from settings, data, model and machine to a plan."""
