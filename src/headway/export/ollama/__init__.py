"""Ollama: a GGUF file with a Modelfile, and the server that runs it."""
