"""Training of a model in shards: each worker of a group holds a part of every weight."""
