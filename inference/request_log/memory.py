"""What a context takes in memory: keys and values of each token, in every layer."""

from typing import Any

import aiohttp
from django.conf import settings

from inference.api_keys.internal import gateway_headers

TIMEOUT = aiohttp.ClientTimeout(total=5)
F16_BYTES = 2


class UnknownMemoryError(Exception):
    """The text says why it is not known."""


async def model_info(model: str) -> dict[str, Any]:
    """What the engine in use tells of a model. Raises UnknownMemoryError."""
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.post(
                f"{settings.GATEWAY_URL}/api/show", json={"model": model}, headers=gateway_headers()
            ) as answer,
        ):
            found = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise UnknownMemoryError("the gateway does not answer") from error
    info = found.get("model_info") if isinstance(found, dict) else None
    if not isinstance(info, dict):
        raise UnknownMemoryError("the engine in use does not have this model")
    return info


def bytes_per_token(info: dict[str, Any]) -> int:
    """Of the cache of keys and values at 16 bits, for one slot; more than it takes where layers look back a window only.
    Raises UnknownMemoryError for what is no plain transformer."""
    arch = info.get("general.architecture")

    def of(name: str) -> int | None:
        value = info.get(f"{arch}.{name}")
        return value if isinstance(value, int) and value > 0 else None

    layers, heads, width = of("block_count"), of("attention.head_count"), of("embedding_length")
    kv_heads = of("attention.head_count_kv")
    head = width // heads if width and heads else None
    keys, values = of("attention.key_length") or head, of("attention.value_length") or head
    if any(str(name).startswith(f"{arch}.ssm.") for name in info):
        raise UnknownMemoryError("this kind of model keeps no keys and values in some layers")
    if not (layers and kv_heads and keys and values):
        raise UnknownMemoryError("the engine does not tell the shape of this model")
    return layers * kv_heads * (keys + values) * F16_BYTES


def trained_length(info: dict[str, Any]) -> int | None:
    value = info.get(f"{info.get('general.architecture')}.context_length")
    return value if isinstance(value, int) else None
