"""GGUF files: what they say of themselves, and quantizing them with ggml's own kernels. No Django, no engine."""
