"""The ASGI app: one request in, the same request to the engine, its answer back as it comes."""

import asyncio
import ipaddress
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import redis.asyncio
from redis.exceptions import RedisError

from inference.gateway.cache import Cache, Entry, Recording, key_of
from inference.gateway.engines import Engine, Engines
from inference.gateway.meter import Meter
from inference.gateway.models import CHANGES, Models, full_name
from inference.gateway.profile import (
    NONE,
    Gate,
    Profiles,
    TooManyWaitingError,
    UnknownProfileError,
    fill,
    loading_options,
    splice,
)
from inference.gateway.records import Records
from inference.gateway.stats import Stats

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BLOB_BYTES = 256 * 2**30  # model files are streamed through, never held
HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer"),
    *(b"transfer-encoding", b"upgrade", b"host", b"content-length", b"expect"),
}
log = logging.getLogger("inference.gateway")


class TooLargeError(Exception):
    pass


class ClientGoneError(Exception):
    pass


class Gateway:
    """ASGI callable. `local_only`: refuse a Host that is not this machine's (DNS rebinding), as Ollama does."""

    def __init__(
        self,
        *,
        engines: list[Engine],
        valkey_url: str,
        max_body: int,
        local_only: bool,
        cache: Cache,
        max_queue: int,
    ) -> None:
        self._engine_list, self._valkey_url = engines, valkey_url
        self.max_body, self.local_only, self.cache = max_body, local_only, cache
        self.gate = Gate(max_queue)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def start(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
            trace_configs=[trace],
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        self.engines = Engines(self._engine_list, self.session)
        self.stats = Stats(asyncio.get_running_loop().time())
        self.records = Records(redis.asyncio.from_url(self._valkey_url, socket_timeout=5))
        self.profiles = Profiles(self._valkey_url, on_change=self.gate.recheck)
        self.models = Models(self.engines, self.session, self.gate, lambda: self.profiles.active)
        await self.engines.probe()
        with suppress(RedisError, OSError):  # `run` says so and tries again
            await self.profiles.read_key()
        for work in (
            self.engines.watch(),
            self.profiles.run(),
            self.models.run(),
            self.records.run(self.stats, lambda: self.engines.current.as_dict()),
        ):
            self._tasks.add(asyncio.create_task(work))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        with suppress(RedisError, OSError):
            await self.records.flush()
        await self.records.client.aclose()
        await self.profiles.client.aclose()
        await self.session.close()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        found = dict(headers)
        client = (
            found.get(b"x-aicleaner-client") or found.get(b"user-agent", b"unknown").split(b" ")[0]
        ).decode("latin-1")[:100]
        ip = scope["client"][0] if scope.get("client") else ""
        meter = Meter(os.urandom(16).hex(), scope["path"], client, ip)
        if self.local_only and not is_local(found.get(b"host", b"").decode("latin-1")):
            await _respond(send, meter, 403, b"", "text/plain")
            return
        counted = meter.is_inference and scope["method"] == "POST"
        if counted:
            self.stats.n_in_flight += 1
        forward = asyncio.current_task()
        watch: asyncio.Task[None] | None = None
        try:
            length = int(found.get(b"content-length", b"0") or 0)
            if scope["path"].startswith("/api/blobs/") and scope["method"] == "POST":
                body: Any = _blob(receive, min(length or MAX_BLOB_BYTES, MAX_BLOB_BYTES))
            else:
                body = await self._body(receive, length)
                values = meter.read_request(body)
                assert forward is not None
                watch = asyncio.create_task(_cancel_when_gone(receive, forward))
                if counted and values is not None:
                    await self._infer(scope, headers, values, body, meter, send)
                    return
            await self._forward(scope, headers, body, meter, send)
        except TooLargeError:
            meter.error = f"request body larger than {self.max_body} bytes"
            await _error(send, meter, 413, f"{meter.error} (AICLEANER_GATEWAY_MAX_BODY_MB sets the limit)")
        except ClientGoneError:
            meter.error = "client closed the connection"
        except asyncio.CancelledError:
            if watch is None or not watch.done():
                raise  # the server shuts down
            meter.error = "client closed the connection"
            assert forward is not None
            forward.uncancel()
        finally:
            if watch is not None:
                watch.cancel()
            if scope["path"] in CHANGES:
                self.models.forget()
            if counted:
                self._finished(meter)

    def _finished(self, meter: Meter) -> None:
        self.stats.n_in_flight -= 1
        if meter.first_byte is not None:
            self.stats.n_answering -= 1
        record = meter.record()
        if meter.recording is not None:
            self.cache.settle(meter.recording, record, time.monotonic())
        self.stats.finished(record, meter.n_chunks, asyncio.get_running_loop().time(), meter.saved_ms)
        self.records.add(record)

    async def _infer(
        self,
        scope: Scope,
        headers: list[tuple[bytes, bytes]],
        values: dict[str, Any],
        body: bytes,
        meter: Meter,
        send: Send,
    ) -> None:
        """A request for a model: the profile's options, the cache, its turn, the engine."""
        found = dict(headers)
        named = found.get(b"x-aicleaner-profile", b"").decode("latin-1")
        try:
            profile = self.profiles.choose(named)
        except UnknownProfileError as error:
            meter.error = str(error)
            await _error(send, meter, 400, meter.error)
            return
        meter.profile = None if profile is NONE else profile.name
        fields = fill(profile, meter.path, values, one_thread=self.models.on_one_thread(meter.model))
        if fields:
            body = splice(body, values, fields)
            values |= fields
            if meter.path.startswith("/v1/"):
                meter.ignored = ",".join(loading_options(fields))
        model = full_name(meter.model)
        self.models.last_used[model] = time.monotonic()
        engine = self.engines.current
        digest = self.models.digest(engine.url, model)
        if digest and self.cache.wants(profile, meter.path, values, found.get(b"cache-control", b"")):
            key = key_of(meter.path, engine.url, digest, values)
            entry = await self.cache.find(key, profile, time.monotonic())
            if entry is not None:
                meter.engine, meter.engine_kind = engine.url, engine.kind
                await self._replay(entry, meter, send)
                return
            meter.cache, meter.recording = "miss", self.cache.record(key, engine.url)
            send = _recorded(meter.recording, send)
        arrived = time.monotonic()
        try:
            async with self.gate.turn(
                model, lambda: (profile if named else self.profiles.active).parallel
            ) as waited:
                if waited:
                    meter.waited_ms = (time.monotonic() - arrived) * 1000
                await self._forward(scope, headers, body, meter, send)
        except TooManyWaitingError as error:
            meter.error = str(error)
            await _error(send, meter, 503, meter.error)

    async def _replay(self, entry: Entry, meter: Meter, send: Send) -> None:
        """A kept answer, in the pieces in which it came."""
        meter.cache, meter.status, meter.content_type = "hit", 200, entry.content_type
        meter.replayed, meter.saved_ms = entry.facts, entry.took_ms
        meter.first_byte = time.monotonic()
        self.stats.n_answering += 1
        chunks = entry.chunks()
        meter.response_bytes = sum(entry.lengths)
        headers = [
            (b"content-type", entry.content_type.encode()),
            (b"age", str(int(meter.first_byte - entry.stored_at)).encode()),
            *_own_headers(meter),
        ]
        if not meter.stream:
            headers.append((b"content-length", str(meter.response_bytes).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": chunks[-1], "more_body": False})

    async def _body(self, receive: Receive, length: int) -> bytes:
        if length > self.max_body:
            raise TooLargeError
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_body:
                raise TooLargeError
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _forward(
        self, scope: Scope, headers: list[tuple[bytes, bytes]], body: Any, meter: Meter, send: Send
    ) -> None:
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        outgoing = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name not in HOP_BY_HOP
        ]
        for attempt in (1, 2):
            engine = self.engines.current
            meter.engine, meter.engine_kind = engine.url, engine.kind
            context: dict[str, bool] = {}
            try:
                async with self.session.request(
                    scope["method"],
                    engine.url + path,
                    headers=outgoing,
                    data=body or None,
                    allow_redirects=False,
                    trace_request_ctx=context,
                ) as answer:
                    await self._pass_back(answer, meter, send)
                    return
            except aiohttp.ClientConnectorError as error:
                problem: Exception = error  # nothing was sent: the next engine may have it
                if attempt == 1 and isinstance(body, bytes):
                    await self.engines.probe(newer_than=meter.started)
                    if self.engines.current is not engine or engine.up:
                        continue
            except (aiohttp.ClientError, OSError) as error:
                problem = error
                stale = context.get("reused") and meter.status == 0
                if attempt == 1 and stale and isinstance(body, bytes):
                    continue  # the engine had closed the kept connection already
            break
        log.warning("%s %s: engine %s failed: %s", scope["method"], scope["path"], engine.url, problem)
        reason = str(problem) or type(problem).__name__
        meter.error = f"the engine at {engine.url} does not answer: {reason}"
        if meter.status == 0:
            await _error(send, meter, 502, meter.error)
        else:
            await self._broken_off(meter, send)

    async def _broken_off(self, meter: Meter, send: Send) -> None:
        """The engine went away amid its answer: an error line where a line can be, then the end."""
        text = f"an error was encountered while running the model: {meter.error}"
        if "ndjson" in meter.content_type:
            line = json.dumps({"error": text}).encode() + b"\n"
        elif "event-stream" in meter.content_type:
            line = b"data: " + json.dumps({"error": _openai(text)}).encode() + b"\n\n"
        else:
            line = b""
        await send({"type": "http.response.body", "body": line, "more_body": False})

    async def _pass_back(self, answer: aiohttp.ClientResponse, meter: Meter, send: Send) -> None:
        meter.status, meter.content_type = answer.status, answer.headers.get("Content-Type", "")
        headers = [
            (name.lower(), value)
            for name, value in answer.raw_headers
            if name.lower() not in HOP_BY_HOP or name.lower() == b"content-length"
        ]
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*headers, *_own_headers(meter)],
            }
        )
        async for chunk in answer.content.iter_any():
            first = meter.first_byte is None
            n_pieces = meter.see(chunk)
            if meter.is_inference:
                self.stats.n_answering += first
                self.stats.pieces(n_pieces)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _note_reuse(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:  # our own questions to the engine bring none
        context.trace_request_ctx["reused"] = True


async def _blob(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """A model file on its way, part by part."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLargeError
        if part:
            yield part
        if not message.get("more_body"):
            return


async def _cancel_when_gone(receive: Receive, forward: "asyncio.Task[Any]") -> None:
    """A client that leaves takes its request to the engine along; that stops the generation."""
    while (await receive())["type"] != "http.disconnect":
        pass
    forward.cancel()


def _recorded(recording: Recording, send: Send) -> Send:
    async def send_and_keep(message: Message) -> None:
        recording.see(message)
        await send(message)

    return send_and_keep


def _own_headers(meter: Meter) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-aicleaner-request-id", meter.request_id.encode()),
        (b"x-aicleaner-cache", meter.cache.encode()),
        (b"x-aicleaner-engine", meter.engine_kind.encode() or b"none"),
        (b"x-aicleaner-profile", (meter.profile or "none").encode()),
    ]
    if meter.ignored and meter.engine_kind == "ollama":
        headers.append((b"x-aicleaner-profile-ignored", meter.ignored.encode()))
    return headers


def _openai(text: str) -> dict[str, Any]:
    return {"message": text, "type": "api_error", "param": None, "code": None}


async def _error(send: Send, meter: Meter, status: int, text: str) -> None:
    error: Any = _openai(text) if meter.path.startswith("/v1/") else text
    await _respond(send, meter, status, json.dumps({"error": error}).encode(), "application/json")


async def _respond(send: Send, meter: Meter, status: int, body: bytes, content_type: str) -> None:
    meter.status = status
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *_own_headers(meter),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@lru_cache(maxsize=256)
def is_local(host: str) -> bool:
    """Whether a Host header names this machine or its network."""
    name = urlsplit(f"//{host}").hostname or ""
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_private
    return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))
