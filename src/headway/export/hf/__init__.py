"""Target hf: a folder for transformers and what is built on it, and the process that opens it."""
