"""The embedded engine: an Ollama-compatible server on llama.cpp (xllamacpp), one process per loaded model.

docs/engine.md says what it offers and where it differs from Ollama. `python -m inference.engine --help`."""

VERSION = "0.33.0"  # the Ollama version whose answers it gives; clients look at it
