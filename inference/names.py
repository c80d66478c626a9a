"""Names of models as Ollama reads them."""


def full_name(name: str) -> str:
    """`llava` is `llava:latest`."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
