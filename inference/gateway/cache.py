"""Answers that need no engine: an exact match on what decides the answer, or a picture that looks the same where a zone
allows that. In memory only; nothing reaches a disk.

A request is eligible when its answer can be repeated (temperature 0, a fixed seed, embeddings), and, where the profile
switches the cache on, whatever its temperature. docs/gateway.md says the rules."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import zstandard

from inference.gateway.cache_stats import CacheStats
from inference.gateway.frames import Frame
from inference.gateway.keys import repeatable
from inference.gateway.profile import Profile

MAX_BYTES, MAX_ENTRY_BYTES, COMPRESS_FROM_BYTES = 64 * 2**20, 2**20, 1024
_compress, _decompress = zstandard.ZstdCompressor(level=3).compress, zstandard.ZstdDecompressor().decompress
COMPLETIONS = frozenset({"/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions"})
EMBEDDINGS = frozenset({"/api/embed", "/api/embeddings", "/v1/embeddings"})


@dataclass(slots=True)
class Entry:
    """A complete answer. `data`: its chunks, joined; `lengths`: of each; `facts`: what its record said of it."""

    model: str
    data: bytes
    compressed: bool
    lengths: list[int]
    content_type: str
    stored_at: float
    facts: dict[str, Any]
    took_ms: float
    frame: Frame | None = None

    def chunks(self) -> list[bytes]:
        data = _decompress(self.data) if self.compressed else self.data
        if len(self.lengths) == 1:
            return [data]
        found, start = [], 0
        for length in self.lengths:
            found.append(data[start : start + length])
            start += length
        return found


@dataclass(slots=True)
class Recording:
    """The answer of one request as it passes; the end decides whether it is kept."""

    key: bytes
    engine_url: str
    model: str
    frame: Frame | None = None
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    content_type: str = ""
    fits: bool = True

    def see(self, message: MutableMapping[str, Any]) -> None:
        """An ASGI message on its way to the client."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            self.content_type = headers.get(b"content-type", b"").decode("latin-1")
            self.fits = message["status"] == 200 and b"content-encoding" not in headers
        elif self.fits and message["body"]:
            self.size += len(message["body"])
            self.fits = self.size <= MAX_ENTRY_BYTES
            if self.fits:
                self.chunks.append(message["body"])
            else:
                self.chunks.clear()


@dataclass(slots=True)
class Asked:
    """A request that is being answered, for the equal ones that wait. `abandon` ends it, once its own client has left."""

    recording: Recording
    over: "asyncio.Future[None]"
    n_waiting: int = 0
    abandon: Callable[[], object] | None = None


class Cache:
    """Least recently used goes first, by number and by bytes. Of equal requests at a time one asks, the others wait."""

    def __init__(
        self, *, enabled: bool = True, ttl_s: float = 300, max_entries: int = 100, compress: bool = True
    ):
        self.enabled, self.ttl_s, self.max_entries, self.compress = enabled, ttl_s, max_entries, compress
        self.n_bytes = 0
        self.stats = CacheStats()
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._families: dict[bytes, dict[bytes, Frame]] = {}  # of pictures -> by key
        self._asking: dict[bytes, Asked] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def wants(self, profile: Profile, path: str, values: dict[str, Any], cache_control: bytes) -> bool:
        """Whether an answer to the request may come from here and stay here."""
        if (
            not self.enabled
            or profile.cache is False
            or b"no-cache" in cache_control
            or b"no-store" in cache_control
        ):
            return False
        if path in EMBEDDINGS:
            return True
        if path not in COMPLETIONS or not (
            values.get("prompt") or values.get("messages") or values.get("images")
        ):
            return False  # without a prompt it loads or unloads the model
        return profile.cache is True or repeatable(path, values)

    async def find(self, key: bytes, profile: Profile, now: float) -> Entry | None:
        """A young enough answer. While an equal request is being answered, wait for its end; if that leaves nothing,
        each of those who waited asks for itself."""
        if (asked := self._asking.get(key)) is not None:
            asked.n_waiting += 1
            try:
                await asyncio.shield(asked.over)
            finally:
                asked.n_waiting -= 1
                if asked.abandon is not None and not asked.n_waiting:
                    asked.abandon()
            now = time.monotonic()
        return self._young(key, profile, now)

    def find_near(
        self, frame: Frame, limit: int, profile: Profile, now: float
    ) -> tuple[Entry | None, int | None]:
        """The answer to the most similar pictures, none of them more than `limit` apart, and how far they are."""
        near = sorted(
            (distance, key)
            for key, other in self._families.get(frame.family, {}).items()
            if (distance := frame.distance(other)) <= limit
        )
        for distance, key in near:
            if (entry := self._young(key, profile, now)) is not None:
                return entry, distance
        return None, None

    def _young(self, key: bytes, profile: Profile, now: float) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        ttl_s = self.ttl_s if profile.cache_ttl_s is None else profile.cache_ttl_s
        if now - entry.stored_at >= ttl_s:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def record(self, key: bytes, engine_url: str, model: str, frame: Frame | None = None) -> Recording:
        """Begin to keep the answer that `engine_url` is going to give; `settle` has to follow."""
        recording = Recording(key, engine_url, model, frame)
        if key not in self._asking:
            self._asking[key] = Asked(recording, asyncio.get_running_loop().create_future())
        return recording

    def goes_on(self, recording: Recording, abandon: Callable[[], object]) -> bool:
        """The client has left: whether others wait for the same answer. Then it is generated for them, and `abandon` is
        called when the last of them leaves too."""
        asked = self._asking.get(recording.key)
        if asked is None or asked.recording is not recording or not asked.n_waiting:
            return False
        asked.abandon = abandon
        return True

    def settle(self, recording: Recording, record: dict[str, Any], now: float) -> None:
        """Keep a complete, successful answer, and wake those who waited for it."""
        whole = not record["error"] and record["status"] == 200 and recording.fits and recording.chunks
        whole = whole and record["engine"] == recording.engine_url  # another one may have helped out
        if whole and (record["done_reason"] not in {"", "load", "unload"} or record["kind"] == "embed"):
            self._store(recording, record, now)
        asked = self._asking.get(recording.key)
        if asked is not None and asked.recording is recording:
            del self._asking[recording.key]
            asked.abandon = None
            asked.over.set_result(None)

    def clear(self, model: str = "") -> tuple[int, int]:
        """Forget the answers of a model, by its full name, or all; returns how many they were and their bytes."""
        n_bytes = self.n_bytes
        gone = [key for key, entry in self._entries.items() if not model or entry.model == model]
        for key in gone:
            self._remove(key)
        return len(gone), n_bytes - self.n_bytes

    def drop_old(self, longest_s: float, now: float) -> None:
        """Forget what is too old for every profile, so that nothing is held that nobody could be given."""
        for each in self.stats.by_model.values():
            while each.kept and now - next(iter(each.kept.values())) >= longest_s:
                self._remove(next(iter(each.kept)))

    def as_json(self, now: float) -> dict[str, Any]:
        return {
            "enabled": self.enabled,
            "ttl_s": self.ttl_s,
            "max_entries": self.max_entries,
            "max_bytes": MAX_BYTES,
            "compress": self.compress,
            "entries": len(self),
            "bytes": self.n_bytes,
            **self.stats.as_json(now),
        }

    def _store(self, recording: Recording, record: dict[str, Any], now: float) -> None:
        data = b"".join(recording.chunks)
        compressed = self.compress and len(data) >= COMPRESS_FROM_BYTES
        if compressed:
            data = _compress(data)
        lengths = [len(each) for each in recording.chunks]
        facts = {name: record[name] for name in ("done_reason", "prompt_tokens", "output_tokens")}
        key, frame = recording.key, recording.frame
        self._remove(key)
        self._entries[key] = Entry(
            recording.model,
            data,
            compressed,
            lengths,
            recording.content_type,
            now,
            facts,
            record["total_ms"],
            frame,
        )
        self.n_bytes += len(data)
        of_model = self.stats.of(recording.model)
        of_model.kept[key] = now
        of_model.n_bytes += len(data)
        if frame is not None:
            self._families.setdefault(frame.family, {})[key] = frame
        while len(self._entries) > self.max_entries or self.n_bytes > MAX_BYTES:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.n_bytes -= len(entry.data)
        of_model = self.stats.of(entry.model)
        del of_model.kept[key]
        of_model.n_bytes -= len(entry.data)
        if entry.frame is not None:
            family = self._families[entry.frame.family]
            del family[key]
            if not family:
                del self._families[entry.frame.family]
