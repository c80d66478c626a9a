"""How many bytes of a loaded model are its KV cache: from the architecture that `/api/show` tells, the context that `/api/ps`
tells, and the cache's type, which the engine's API does not tell but its process does. Pure arithmetic, no I/O.

bytes = cells x sum over layers of KV heads x (key length x bytes of a key's number + value length x those of a value's), as
llama.cpp allocates it: cells of each slot in steps of 256. Checked against what llama.cpp reports of the sample model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CELLS_STEP = 256
# Bytes of a number by ggml's types; the quantized ones are blocks of 32 with their scale.
BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
# What of an architecture says that not every layer keeps every token, or keeps something else: then nothing is computed.
OTHERWISE = (
    "sliding_window", "kv_lora_rank", "ssm.", "wkv", "cross_attention", "shared_kv", "full_attention_interval",
    "recurrent", "shortconv",
)  # fmt: skip


@dataclass(frozen=True)
class Cache:
    key_type: str = "f16"
    value_type: str = "f16"
    n_parallel: int = 1


def cache_of(command: Sequence[str], environment: Mapping[str, str] | None) -> Cache | None:
    """From a runner's command line (our own: one JSON argument; llama.cpp's: flags), else from the environment that it has of
    `ollama serve` (None: not ours to read). None where neither says it for sure."""
    for argument in command:
        if argument.startswith("{"):
            try:
                own = json.loads(argument)
                kind = str(own["kv_cache_type"])
                return _known(kind, kind, int(own["n_parallel"]))
            except (ValueError, KeyError, TypeError):
                continue
    both = _flag(command, "--kv-cache-type")
    keys = _flag(command, "--cache-type-k", "-ctk") or both
    values = _flag(command, "--cache-type-v", "-ctv") or both
    parallel = _flag(command, "--parallel", "-np")
    if (keys is None or values is None or parallel is None) and environment is None:
        return None
    told = environment or {}
    kind = told.get("OLLAMA_KV_CACHE_TYPE") or "f16"
    # Without flash attention Ollama keeps f16 whatever is asked for; whether it is on by itself nobody tells.
    sure = kind == "f16" or told.get("OLLAMA_FLASH_ATTENTION", "").lower() in ("1", "true")
    if not sure and (keys is None or values is None):
        return None
    try:
        return _known(keys or kind, values or kind, int(parallel or told.get("OLLAMA_NUM_PARALLEL") or 1))
    except ValueError:
        return None


def _known(keys: str, values: str, n_parallel: int) -> Cache | None:
    return Cache(keys, values, n_parallel) if keys in BYTES and values in BYTES and n_parallel >= 1 else None


def _flag(command: Sequence[str], *names: str) -> str | None:
    for place, argument in enumerate(command):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else next(iter(command[place + 1 : place + 2]), None)
    return None


def kv_cache_bytes(info: Mapping[str, Any], context: int, cache: Cache) -> int | None:
    """`info`: `model_info` of `/api/show`; `context`: tokens of one slot. None for an architecture that it does not hold for."""
    arch = str(info.get("general.architecture") or "")
    own = {
        name.removeprefix(f"{arch}."): value for name, value in info.items() if name.startswith(f"{arch}.")
    }
    if own.get("attention.causal") is False or any(
        value and marker in name for name, value in own.items() for marker in OTHERWISE
    ):
        return None
    try:
        layers, heads = int(own["block_count"]), own.get("attention.head_count")
        of_layer = own.get("attention.head_count_kv", heads)
        kv_heads = of_layer if isinstance(of_layer, list) else [of_layer] * layers
        length = _head_length(own, heads)
        key, value = (int(own.get(f"attention.{name}_length") or length) for name in ("key", "value"))
        n_heads = int(sum(kv_heads))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if len(kv_heads) != layers:
        return None
    cells = -(-context // CELLS_STEP) * CELLS_STEP * cache.n_parallel
    return round(cells * n_heads * (key * BYTES[cache.key_type] + value * BYTES[cache.value_type]))


def _head_length(own: Mapping[str, Any], heads: Any) -> int:
    """Where it is not told; 0 where both lengths are and this one is not asked for."""
    if own.get("attention.key_length") and own.get("attention.value_length"):
        return 0
    return int(own["embedding_length"]) // int(heads)
