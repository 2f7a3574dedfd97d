"""GGUF files for llama.cpp and what is built on it, written from a model of transformers."""
