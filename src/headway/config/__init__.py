"""Settings: table, values, YAML file, command line."""
