"""The gateway's rates, which it leaves in Valkey each second, and how fast each model generated of late."""

import json
from collections.abc import Mapping
from typing import Any

import redis

from monitoring.readers.base import Reader, Reading, Roots, Values, label

KEY = "aicleaner:gateway:stats"
SERIES = (
    *("requests_per_s", "errors_per_s", "tokens_per_s", "prompt_tokens_per_s", "ttft_p50_ms", "ttft_p95_ms"),
    *("total_p50_ms", "total_p95_ms"),
    *("running", "queued", "records_lost_total"),
    *("cache_hits_total", "cache_misses_total", "cache_saved_s_total"),
)


class Gateway(Reader):
    name = "gateway"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.valkey = redis.from_url(roots.valkey_url, socket_timeout=0.3, socket_connect_timeout=0.3)

    def read(self, now: float) -> Reading:
        stats: dict[str, Any] | None = None
        try:
            raw: Any = self.valkey.get(KEY)
            stats = json.loads(raw) if raw else None
        except redis.RedisError:
            pass
        if stats is not None:
            # For exports and for a page of its own, not for each page each second.
            stats = {name: value for name, value in stats.items() if name not in {"histograms", "cache"}}
        values: Values = {f"gateway_{name}": (stats or {}).get(name) for name in SERIES}
        values |= speeds_of((stats or {}).get("speeds") or {})
        return Reading(values, {"gateway": stats})

    def close(self) -> None:
        self.valkey.close()


def speeds_of(speeds: Mapping[str, Mapping[str, float | None]]) -> Values:
    """Series of each model that answered within the last minute."""
    values: Values = {}
    for model, speed in speeds.items():
        labels = f"{{model={label(tagged(model))}}}"
        values[f"model_decode_tokens_per_s{labels}"] = speed["tokens_per_s"]
        values[f"model_prompt_tokens{labels}"] = speed["prompt_tokens"]
    return values


def tagged(model: str) -> str:
    """The name as the engine lists it: clients may leave out `latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
