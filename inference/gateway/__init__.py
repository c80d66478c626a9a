"""The gateway: a lean ASGI app before the engine in use. It passes the Ollama and OpenAI API through, counts and times.

docs/gateway.md says what it does; `python -m inference.gateway --help`. No Django here: a request costs no page's time."""
