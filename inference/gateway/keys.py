"""What makes two requests equal: a key of all that decides the answer, or of all but the pictures."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":")
).encode  # json.dumps would make one each time


# What changes no answer: how long the model stays, on how many threads it runs, where it lies in memory, who asks.
OF_NO_ACCOUNT = frozenset({"keep_alive", "user", "safety_identifier", "metadata", "store", "service_tier"})
OPTIONS_OF_NO_ACCOUNT = frozenset({"num_thread", "use_mmap", "use_mlock", "numa"})


def repeatable(path: str, values: dict[str, Any]) -> bool:
    """Whether the request asks for an answer that is the same each time."""
    asked = values if path.startswith("/v1/") else values.get("options") or {}
    if not isinstance(asked, dict):
        return False
    seed = asked.get("seed")
    return asked.get("temperature") == 0 or (isinstance(seed, int) and seed >= 0)  # below 0: by chance


def key_of(path: str, engine_url: str, digest: str, values: dict[str, Any]) -> bytes:
    """Of what decides the answer: where it goes, the model's digest, and the request with the profile's options in it,
    whatever the order of its fields. Pictures count by their hash."""
    return _digest([path, engine_url, digest, _with_pictures(_deciding(values), _hash)])


def family_of(
    zone: str, path: str, engine_url: str, digest: str, values: dict[str, Any]
) -> tuple[bytes, list[Any]]:
    """A key of the zone and of all that decides the answer but the pictures; and those, in their order: what stands where
    each is named, a text for one that can be looked at."""
    pictures: list[Any] = []

    def take(value: Any) -> Any:
        nested = isinstance(value, dict) and "url" in value  # OpenAI's; `detail` stands beside it
        pictures.append(value["url"] if nested else value)
        return {**value, "url": None} if nested else None

    return _digest(
        ["near", zone, path, engine_url, digest, _with_pictures(_deciding(values), take)]
    ), pictures


def _deciding(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of the request that decide its answer; null is what was left out."""
    kept = {name: each for name, each in values.items() if each is not None and name not in OF_NO_ACCOUNT}
    options = kept.get("options")
    if isinstance(options, dict):
        kept["options"] = {
            name: each
            for name, each in options.items()
            if each is not None and name not in OPTIONS_OF_NO_ACCOUNT
        }
        if not kept["options"]:
            del kept["options"]
    return kept


def _with_pictures(values: dict[str, Any], swap: Callable[[Any], Any]) -> dict[str, Any]:
    """The request with something else in the place of each picture."""
    shown = dict(values)
    if isinstance(values.get("images"), list):
        shown["images"] = [swap(each) for each in values["images"]]
    if isinstance(values.get("messages"), list):
        shown["messages"] = [_message(each, swap) for each in values["messages"]]
    return shown


def _message(message: Any, swap: Callable[[Any], Any]) -> Any:
    if not isinstance(message, dict):
        return message
    if isinstance(message.get("images"), list):
        message = {**message, "images": [swap(each) for each in message["images"]]}
    if isinstance(message.get("content"), list):  # OpenAI's parts
        message = {**message, "content": [_part(each, swap) for each in message["content"]]}
    return message


def _part(part: Any, swap: Callable[[Any], Any]) -> Any:
    return (
        {**part, "image_url": swap(part["image_url"])}
        if isinstance(part, dict) and "image_url" in part
        else part
    )


def _hash(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _digest(parts: list[Any]) -> bytes:
    return hashlib.blake2b(_encode(parts).encode(), digest_size=16).digest()
