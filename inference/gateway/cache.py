"""Answers that need no engine: an exact match on what decides the answer. In memory only; nothing reaches a disk.

A request is eligible when its answer can be repeated (temperature 0, a fixed seed, embeddings), and, where the profile
switches the cache on, whatever its temperature. docs/gateway.md says the rules."""

import asyncio
import hashlib
import json
import time
import zlib
from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from inference.gateway.profile import Profile

MAX_BYTES, MAX_ENTRY_BYTES, COMPRESS_FROM_BYTES = 64 * 2**20, 2**20, 1024
COMPLETIONS = frozenset({"/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions"})
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":")
).encode  # json.dumps would make one each time
EMBEDDINGS = frozenset({"/api/embed", "/api/embeddings", "/v1/embeddings"})


@dataclass(slots=True)
class Entry:
    """A complete answer. `data`: its chunks, joined; `lengths`: of each; `facts`: what its record said of it."""

    data: bytes
    compressed: bool
    lengths: list[int]
    content_type: str
    stored_at: float
    facts: dict[str, Any]
    took_ms: float

    def chunks(self) -> list[bytes]:
        data = zlib.decompress(self.data) if self.compressed else self.data
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


class Cache:
    """Least recently used goes first, by number and by bytes. Of equal requests at a time one asks, the others wait."""

    def __init__(
        self, *, enabled: bool = True, ttl_s: float = 300, max_entries: int = 100, compress: bool = True
    ):
        self.enabled, self.ttl_s, self.max_entries, self.compress = enabled, ttl_s, max_entries, compress
        self.n_bytes = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[None]] = {}

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
            await asyncio.shield(asked)
            now = time.monotonic()
        entry = self._entries.get(key)
        if entry is None:
            return None
        ttl_s = self.ttl_s if profile.cache_ttl_s is None else profile.cache_ttl_s
        if now - entry.stored_at >= ttl_s:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def record(self, key: bytes, engine_url: str) -> Recording:
        """Begin to keep the answer that `engine_url` is going to give; `settle` has to follow."""
        if key not in self._asking:
            self._asking[key] = asyncio.get_running_loop().create_future()
        return Recording(key, engine_url)

    def settle(self, recording: Recording, record: dict[str, Any], now: float) -> None:
        """Keep a complete, successful answer, and wake those who waited for it."""
        asked = self._asking.pop(recording.key, None)
        whole = not record["error"] and record["status"] == 200 and recording.fits and recording.chunks
        whole = whole and record["engine"] == recording.engine_url  # another one may have helped out
        if whole and (record["done_reason"] not in {"", "load", "unload"} or record["kind"] == "embed"):
            self._store(recording, record, now)
        if asked is not None:
            asked.set_result(None)

    def _store(self, recording: Recording, record: dict[str, Any], now: float) -> None:
        data = b"".join(recording.chunks)
        compressed = self.compress and len(data) >= COMPRESS_FROM_BYTES
        if compressed:
            data = zlib.compress(data, 1)
        lengths = [len(each) for each in recording.chunks]
        facts = {name: record[name] for name in ("done_reason", "prompt_tokens", "output_tokens")}
        self._remove(recording.key)
        self._entries[recording.key] = Entry(
            data, compressed, lengths, recording.content_type, now, facts, record["total_ms"]
        )
        self.n_bytes += len(data)
        while len(self._entries) > self.max_entries or self.n_bytes > MAX_BYTES:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.n_bytes -= len(entry.data)


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
    shown = dict(values)
    if isinstance(values.get("images"), list):
        shown["images"] = [_hash(each) for each in values["images"]]
    if isinstance(values.get("messages"), list):
        shown["messages"] = [_message(each) for each in values["messages"]]
    text = _encode([path, engine_url, digest, shown])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    if isinstance(message.get("images"), list):
        message = {**message, "images": [_hash(each) for each in message["images"]]}
    if isinstance(message.get("content"), list):  # OpenAI's parts
        message = {**message, "content": [_part(each) for each in message["content"]]}
    return message


def _part(part: Any) -> Any:
    return (
        {**part, "image_url": _hash(part["image_url"])}
        if isinstance(part, dict) and "image_url" in part
        else part
    )


def _hash(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
