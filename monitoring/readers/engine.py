"""The engine in use and its models: `/api/ps` each second, `/api/tags` each half minute, `/api/show` once a model, asked in
a thread of its own so that a busy engine never delays a sample. What other engines have loaded the gateway tells."""

import http.client
import json
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import redis

from monitoring.headroom import MOST, need_of
from monitoring.kv_cache import Cache, kv_cache_bytes
from monitoring.readers.base import Poller, Reader, Reading, Roots, Values, label
from monitoring.readers.gateway import KEY
from monitoring.readers.runners import Runners

ASK_EVERY_S = 1.0
TAGS_EVERY_S = 30.0
TIMEOUT_S = 3.0
LATE_S = 10.0
EARLY_S = 5.0  # so much before the end of its keep-alive a model leaves early
MEMORY_KEY = (
    "aicleaner:gateway:memory"  # what the gateway knows of the models that are loaded, of all engines
)
REMEMBER_S = 30.0  # for so long a model that left early may be taken for the one that made place
_FROM = re.compile(r"^FROM (.*?)sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)


@dataclass
class Loaded:
    """What is known of a loaded model beyond `/api/ps`. `since`: monotonic s of the first sight of it; `cache`: once its process
    is found, of that process."""

    digest: str
    since: float
    file: str
    info: dict[str, Any]
    pid: int | None = None
    cache: Cache | None = None


class Engine(Reader):
    name = "engine"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self._valkey = redis.from_url(roots.valkey_url, socket_timeout=1, socket_connect_timeout=1)
        self._connection: http.client.HTTPConnection | None = None
        self._url = ""
        self._engine: dict[str, Any] | None = None
        self._tags: tuple[float, int | None] = (-TAGS_EVERY_S, None)
        self._weights: dict[str, int] = {}  # bytes of the model's file, by digest
        self._on_disk: list[tuple[str, str]] = []  # name and digest
        self._infos: dict[str, dict[str, Any]] = {}  # `model_info`, by digest
        self._took: dict[str, tuple[int, int | None]] = {}  # bytes and context of the last load, by digest
        self._loaded: dict[str, Loaded] = {}
        self._runners = Runners(roots)
        self._models: list[dict[str, Any]] = []
        self._left: list[tuple[float, dict[str, Any]]] = []  # those that left early, and when
        self._poller = Poller("engine", self._ask, ASK_EVERY_S)

    def read(self, now: float) -> Reading:
        found = self._poller.newest()
        if found is None or self._poller.silent_s(now) > LATE_S:
            nothing: Values = {"engine_up": None if found is None else 0.0}
            return Reading(nothing, {"engine": None, "models": [], "elsewhere": [], "models_on_disk": None})
        return found

    def wait_for_first(self, timeout_s: float) -> None:
        self._poller.wait_for_first(timeout_s)

    def close(self) -> None:
        self._poller.close(TIMEOUT_S + 1)
        if self._connection is not None:
            self._connection.close()
        self._valkey.close()

    def _ask(self, now: float) -> Reading | None:
        """None until the gateway has said which engine is in use; while it is away, that one is asked on."""
        elsewhere: list[dict[str, Any]] = []
        with suppress(redis.RedisError):
            raw, memory = self._told()
            self._engine = raw.get("engine") or self._engine
            elsewhere = loaded_elsewhere(memory)
        if self._engine is None:
            return None
        engine = self._engine
        state: dict[str, Any] = {**engine, "error": ""}
        models: list[dict[str, Any]] = []
        try:
            found = self._get(engine["url"], "/api/ps").get("models") or []
            if now - self._tags[0] >= TAGS_EVERY_S:
                tags = self._get(engine["url"], "/api/tags").get("models") or []
                self._tags = (now, len(tags))
                self._weights = {each.get("digest"): int(each.get("size") or 0) for each in tags}
                self._on_disk = sorted((each.get("name", ""), each.get("digest", "")) for each in tags)
                self._infos = {key: info for key, info in self._infos.items() if key in self._weights}
                self._took = {key: took for key, took in self._took.items() if key in self._weights}
            models = [self._describe(engine["url"], each, now) for each in found]
            self._note_left(models, now)
            self._learn_one(engine["url"])
            state["up"] = True
        except (OSError, http.client.HTTPException, ValueError, TypeError, AttributeError) as error:
            state |= {"up": False, "error": str(error) or type(error).__name__}
            self._tags = (-TAGS_EVERY_S, None)
            models = []
        up = bool(state["up"])
        size, vram = (sum(each[name] for each in models) for name in ("size_bytes", "vram_bytes"))
        values: Values = {
            "engine_up": float(up),
            "engine_models_loaded": float(len(models)) if up else None,
            "engine_memory_bytes": size if up else None,
            "engine_vram_bytes": vram if up else None,
            "engine_cpu_share_percent": 100 * (1 - vram / size) if up and size else None,
        }
        values |= values_of(models)
        left = [{"name": each["name"], "loaded_s": each["loaded_s"]} for _, each in self._left]
        return Reading(
            values,
            {
                "engine": state,
                "models": models,
                "elsewhere": elsewhere,
                "left_early": left,
                "models_on_disk": self._tags[1],
                "on_disk": self._needs() if up else [],
            },
        )

    def _told(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """By the gateway: its figures, and what is loaded. Raises RedisError."""
        found: Any = self._valkey.mget(KEY, MEMORY_KEY)
        figures, memory = (json.loads(raw) if raw else {} for raw in found)
        return figures, memory

    def _learn_one(self, url: str) -> None:
        """One `/api/show` a second, until the architecture of each model on the disk is known. One that the engine can't show
        counts as known by its file alone."""
        for name, digest in self._on_disk[:MOST]:
            if digest not in self._infos:
                self._infos[digest] = self._get(url, "/api/show", {"model": name}).get("model_info") or {}
                return

    def _needs(self) -> list[dict[str, Any]]:
        found = []
        for name, digest in self._on_disk:
            need = need_of(self._weights[digest], self._infos.get(digest), self._took.get(digest))
            told = {"n_bytes": None, "basis": None, "context": None} if need is None else asdict(need)
            found.append({"name": name, **told})
        return found

    def _note_left(self, models: list[dict[str, Any]], now: float) -> None:
        names = {each["name"] for each in models}
        self._left = [each for each in self._left if now - each[0] < REMEMBER_S]
        for each in self._models:
            if each["name"] not in names and (each["leaves_in_s"] or 0) > EARLY_S:
                self._left.append((now, each))
        self._models = models
        self._loaded = {name: known for name, known in self._loaded.items() if name in names}

    def _describe(self, url: str, model: dict[str, Any], now: float) -> dict[str, Any]:
        """`describe`, with what `/api/ps` does not say: the file's size, the process and its memory, how long it is there."""
        known = describe(model, time.time())
        name, digest = known["name"], str(model.get("digest") or "")
        loaded = self._loaded.get(name)
        if loaded is None or loaded.digest != digest:
            shown = self._get(url, "/api/show", {"model": name})
            match = _FROM.search(str(shown.get("modelfile") or ""))
            file = f"{match[1]}sha256-{match[2]}" if match else ""
            loaded = self._loaded[name] = Loaded(digest, now, file, shown.get("model_info") or {})
        pid = self._runners.find(loaded.file, now) if loaded.file else None
        if pid != loaded.pid:
            loaded.pid, loaded.cache = pid, None if pid is None else self._runners.cache(pid)
        if known["size_bytes"]:
            self._took[digest] = (known["size_bytes"], known["context_length"])
        return {
            **known,
            **parts_of(known, self._weights.get(digest) or None, loaded),
            "pid": pid,
            "process_memory_bytes": None if pid is None else self._runners.memory_bytes(pid),
            "process_cpu_percent": None if pid is None else self._runners.cpu_percent(pid, now),
            "loaded_s": now - loaded.since,
        }

    def _get(self, url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """POST with a body, GET without."""
        if self._connection is None or url != self._url:
            parts = urlsplit(url)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection, self._url = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S), url
        try:
            data = None if body is None else json.dumps(body).encode()
            self._connection.request("GET" if data is None else "POST", path, data)
            answer = self._connection.getresponse()
            told = answer.read()
            # An endpoint that an older server does not have, or a model that has just gone.
            return {} if answer.status == 404 else dict(json.loads(told))
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            self._connection = None
            raise


def loaded_elsewhere(memory: dict[str, Any]) -> list[dict[str, Any]]:
    """Models that engines beside the one in use have loaded, in the words of `describe` as far as they go."""
    return [
        {
            "engine": each["engine"],
            "name": each["name"],
            "size_bytes": (size := each["memory_bytes"] + each["vram_bytes"]),
            "vram_bytes": each["vram_bytes"],
            "gpu_share": each["vram_bytes"] / size if size else None,
            "expires_at": each["expires_at"],
        }
        for each in memory.get("loaded") or ()
        if each["url"] != memory["in_use"]
    ]


def parts_of(model: dict[str, Any], weights: int | None, loaded: Loaded) -> dict[str, int | None]:
    """What its memory is made of. `buffers_bytes`: what is left beside weights and KV cache; None where one of them is unknown,
    or nothing is left: a file that is mapped into memory need not be in it wholly."""
    context, cache = model["context_length"], None
    if context and loaded.cache is not None:
        cache = kv_cache_bytes(loaded.info, context, loaded.cache)
    rest = None if weights is None or cache is None else model["size_bytes"] - weights - cache
    return {
        "weights_bytes": weights,
        "kv_cache_bytes": cache,
        "buffers_bytes": rest if rest is not None and rest >= 0 else None,
    }


def values_of(models: list[dict[str, Any]]) -> Values:
    """Series of each loaded model."""
    values: Values = {}
    for each in models:
        labels = f"{{model={label(each['name'])}}}"
        share = each["gpu_share"]
        values |= {
            f"model_memory_bytes{labels}": each["size_bytes"],
            f"model_vram_bytes{labels}": each["vram_bytes"],
            f"model_cpu_share_percent{labels}": None if share is None else 100 * (1 - share),
            f"model_process_memory_bytes{labels}": each["process_memory_bytes"],
            f"model_process_cpu_percent{labels}": each["process_cpu_percent"],
            f"model_weights_bytes{labels}": each["weights_bytes"],
            f"model_kv_cache_bytes{labels}": each["kv_cache_bytes"],
            f"model_buffers_bytes{labels}": each["buffers_bytes"],
            f"model_context_tokens{labels}": each["context_length"],
        }
    return values


def describe(model: dict[str, Any], at: float) -> dict[str, Any]:
    """A model of `/api/ps` in our words; sizes in bytes, the share of it that is on the GPU as 0 to 1, and the seconds from
    `at` until it is unloaded when nobody asks it (None: unknown)."""
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
        "leaves_in_s": seconds_until(model.get("expires_at"), at),
    }


def seconds_until(moment: Any, at: float) -> float | None:
    """Ollama writes nine digits of a second, more than datetime reads."""
    try:
        text = re.sub(r"(\.\d{6})\d+", r"\1", str(moment))
        return datetime.fromisoformat(text).timestamp() - at
    except ValueError:
        return None
