"""GGUF files for llama.cpp and programs built on it, written from a transformers model."""
