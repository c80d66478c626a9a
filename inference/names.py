"""Names of models as Ollama reads them."""

from collections.abc import Iterable


def full_name(name: str) -> str:
    """`llava` is `llava:latest`."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def taken(name: str, known: Iterable[str]) -> str:
    """The one of `known` that Ollama takes for `name`, whatever the case of its letters: it would be overwritten. "": none."""
    return next((each for each in known if each.casefold() == name.casefold()), "")
