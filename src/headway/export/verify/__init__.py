"""Verification of a GGUF file: llama.cpp compared with PyTorch."""
