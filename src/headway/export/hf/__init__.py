"""Target hf: a folder for transformers and tools built on it, and the process that opens it."""
