"""The texts in a request that become its prompt: how many bytes they are and, where the setting says so, what they say.

Templates, tools and pictures are not counted: they make tokens without a byte here."""

from collections.abc import Iterator
from typing import Any

FIELDS = ("system", "instructions", "prompt", "suffix", "input")


def prompt_bytes(values: dict[str, Any]) -> int:
    """UTF-8 bytes: of most languages a token holds about as many of those, though not as many characters."""
    n = 0
    for text in texts(values):
        n += len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return n


def prompt_text(values: dict[str, Any], limit: int) -> tuple[str, bool]:
    """The first `limit` bytes of the texts, an empty line between them, and whether more came."""
    kept: list[str] = []
    room = limit
    for text in texts(values):
        room -= 2 if kept else 0  # the empty line
        raw = text[: max(room, 0) + 1].encode(errors="replace")
        if len(raw) > room:
            if room > 0:
                kept.append(raw[:room].decode(errors="ignore"))
            return "\n\n".join(kept), True
        kept.append(raw.decode())
        room -= len(raw)
    return "\n\n".join(kept), False


def texts(values: dict[str, Any]) -> Iterator[str]:
    for name in FIELDS:
        if name in values:
            yield from _texts(values[name])
    messages = values.get("messages")
    if isinstance(messages, list):
        yield from _texts(messages)


def _texts(value: Any) -> Iterator[str]:
    """Of a text, or of a list of texts, messages or parts, which may hold such lists in turn, a few levels deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, str):
                yield each
            elif isinstance(each, dict):
                content = each.get("content", each.get("text"))
                if isinstance(content, str):
                    yield content
                elif isinstance(content, list):
                    for part in content:
                        if isinstance(part, dict) and isinstance(part.get("text"), str):
                            yield part["text"]
