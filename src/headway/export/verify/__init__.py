"""Verification of a GGUF file: llama.cpp beside PyTorch."""
