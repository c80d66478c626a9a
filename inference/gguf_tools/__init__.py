"""GGUF files: what they say of themselves, quantizing them with ggml's own kernels, and what matters in them. No Django."""
