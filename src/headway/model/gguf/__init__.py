"""GGUF files of llama.cpp, converted to transformers model folders."""
