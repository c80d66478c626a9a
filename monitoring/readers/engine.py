"""The engine in use and its models: `/api/ps` each second, `/api/tags` each half minute, asked in a thread of its own so
that a busy engine never delays a sample."""

import http.client
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import redis

from monitoring.readers.base import Poller, Reader, Reading, Roots, Values
from monitoring.readers.gateway import KEY

ASK_EVERY_S = 1.0
TAGS_EVERY_S = 30.0
TIMEOUT_S = 3.0
LATE_S = 10.0


class Engine(Reader):
    name = "engine"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self._valkey = redis.from_url(roots.valkey_url, socket_timeout=1, socket_connect_timeout=1)
        self._connection: http.client.HTTPConnection | None = None
        self._url = ""
        self._engine: dict[str, Any] | None = None
        self._tags: tuple[float, int | None] = (-TAGS_EVERY_S, None)
        self._poller = Poller("engine", self._ask, ASK_EVERY_S)

    def read(self, now: float) -> Reading:
        found = self._poller.newest()
        if found is None or self._poller.silent_s(now) > LATE_S:
            nothing: Values = {"engine_up": None if found is None else 0.0}
            return Reading(nothing, {"engine": None, "models": [], "models_on_disk": None})
        return found

    def wait_for_first(self, timeout_s: float) -> None:
        self._poller.wait_for_first(timeout_s)

    def close(self) -> None:
        self._poller.close(TIMEOUT_S + 1)
        self._valkey.close()

    def _ask(self, now: float) -> Reading | None:
        """None until the gateway has said which engine is in use; while it is away, that one is asked on."""
        with suppress(redis.RedisError):
            raw: Any = self._valkey.get(KEY)
            self._engine = (json.loads(raw) if raw else {}).get("engine") or self._engine
        if self._engine is None:
            return None
        engine = self._engine
        state: dict[str, Any] = {**engine, "error": ""}
        models: list[dict[str, Any]] = []
        try:
            models = [describe(each) for each in self._get(engine["url"], "/api/ps").get("models") or []]
            if now - self._tags[0] >= TAGS_EVERY_S:
                tags = self._get(engine["url"], "/api/tags").get("models") or []
                self._tags = (now, len(tags))
            state["up"] = True
        except (OSError, http.client.HTTPException, ValueError, TypeError, AttributeError) as error:
            state |= {"up": False, "error": str(error) or type(error).__name__}
            self._tags = (-TAGS_EVERY_S, None)
        up = bool(state["up"])
        size, vram = (sum(each[name] for each in models) for name in ("size_bytes", "vram_bytes"))
        values: Values = {
            "engine_up": float(up),
            "engine_models_loaded": float(len(models)) if up else None,
            "engine_memory_bytes": size if up else None,
            "engine_vram_bytes": vram if up else None,
            "engine_cpu_share_percent": 100 * (1 - vram / size) if up and size else None,
        }
        return Reading(values, {"engine": state, "models": models, "models_on_disk": self._tags[1]})

    def _get(self, url: str, path: str) -> dict[str, Any]:
        if self._connection is None or url != self._url:
            parts = urlsplit(url)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection, self._url = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S), url
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            return dict(json.loads(answer.read()))
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            self._connection = None
            raise


def describe(model: dict[str, Any]) -> dict[str, Any]:
    """A model of `/api/ps` in our words; sizes in bytes, the share of it that is on the GPU as 0 to 1."""
    details = model.get("details") or {}
    size, vram = int(model.get("size") or 0), int(model.get("size_vram") or 0)
    return {
        "name": model.get("name", ""),
        "size_bytes": size,
        "vram_bytes": vram,
        "gpu_share": vram / size if size else None,
        "context_length": model.get("context_length"),
        "quantization": details.get("quantization_level"),
        "parameters": details.get("parameter_size"),
        "family": details.get("family"),
        "expires_at": model.get("expires_at"),
    }
