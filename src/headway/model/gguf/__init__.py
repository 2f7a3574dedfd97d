"""GGUF files of llama.cpp as model folders of transformers."""
