"""The ASGI app: one request in, the same request to the engine, its answer back as it comes."""

import asyncio
import logging
import os
import time
from contextlib import suppress
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from inference.gateway.access import Access, AccessRules
from inference.gateway.added import AddedEngines
from inference.gateway.aliases import Aliases
from inference.gateway.answers import replay, respond, send_error
from inference.gateway.api_keys import ApiKeys
from inference.gateway.asgi import Message, Receive, Scope, Send
from inference.gateway.bodies import ClientGoneError, TooLargeError, Upload, read_body
from inference.gateway.cache import Cache, Entry, Recording
from inference.gateway.clouds import Clouds
from inference.gateway.engines import Engine, Engines
from inference.gateway.eviction import Rules
from inference.gateway.fallbacks import EngineFailedError, Fallbacks
from inference.gateway.forwarding import Forwarding
from inference.gateway.frames import Frame, Frames, Zones
from inference.gateway.headers import MARK
from inference.gateway.keys import family_of, key_of
from inference.gateway.loads import Loads, kept_tokens, load_options
from inference.gateway.memory import Memory
from inference.gateway.meter import Meter, is_inference
from inference.gateway.models import CHANGES, Models
from inference.gateway.orders import CacheOrders
from inference.gateway.profile import (
    NONE,
    Gate,
    Profile,
    Profiles,
    TooManyWaitingError,
    UnknownProfileError,
    fill,
    loading_options,
    splice,
)
from inference.gateway.prompts import prompt_bytes, prompt_text
from inference.gateway.pushed import Pushed
from inference.gateway.records import Records
from inference.gateway.routing import AS_ASKED, Routing, UnknownEngineError
from inference.gateway.sessions import Sessions
from inference.gateway.slots import Slots
from inference.gateway.stats import Stats
from inference.gateway.union import Union
from inference.names import full_name
from inference.origins import Origins, is_local

GONE = "client closed the connection"
log = logging.getLogger("inference.gateway")


class Gateway:
    """ASGI callable. `local_only`: refuse a Host that is not this machine's (DNS rebinding), as Ollama does.
    `silent_s`: seconds without a byte after which an engine counts as hanging.
    `max_queue`: requests that may wait for their turn.
    `keep_prompt`: bytes of each prompt that its record takes along; 0: none.
    `origins`: of pages that may have and read what no local engine is asked for; those have rules of their own."""

    def __init__(
        self,
        *,
        engines: list[Engine],
        valkey_url: str,
        max_body: int,
        local_only: bool,
        silent_s: float,
        cache: Cache,
        max_queue: int,
        rules: Rules,
        access: AccessRules,
        slots: Slots,
        origins: Origins,
        keep_prompt: int = 0,
    ) -> None:
        self._engine_list, self._valkey_url = engines, valkey_url
        self.max_body, self.local_only, self.silent_s = max_body, local_only, silent_s
        self.mark = os.urandom(8).hex()
        self.cache, self.gate, self.loads, self.rules = cache, Gate(max_queue), Loads(), rules
        self.keep_prompt, self._access_rules, self.slots = keep_prompt, access, slots
        self.origins = origins
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def start(self) -> None:
        self.sessions = Sessions(self.silent_s)
        self.engines = Engines(self._engine_list, self.sessions, {MARK.decode(): self.mark})
        self.stats = Stats(asyncio.get_running_loop().time())
        self.records = Records(redis.asyncio.from_url(self._valkey_url, socket_timeout=5))
        self.profiles = Profiles(self._valkey_url, on_change=self.gate.recheck)
        self.zones, self.frames = Zones(self._valkey_url), Frames()
        self.orders = CacheOrders(self._valkey_url, self.cache)
        self.models = Models(self.engines, self.loads, self.gate)
        self.keys = ApiKeys(self._valkey_url, self._access_rules.secret, self._access_rules.file)
        self.keys.read_file()
        self.access = Access(self.keys, self._access_rules, self.records)
        self.added = AddedEngines(self._valkey_url, self.engines, self._ask_engines)
        # A stand-in may be younger than what the engine was asked last.
        self.aliases = Aliases(self._valkey_url, on_change=self.models.forget)
        self.memory = Memory(
            self.engines, self.gate, self.profiles, self.records.client, self.rules, self.slots
        )
        self.routing = Routing(self.engines, self.models, self.memory.pressure)
        self.union = Union(self.engines, self.models)
        self.forwarding = Forwarding(
            self.engines,
            self.sessions,
            self.models,
            self.slots,
            self.stats,
            mark=self.mark,
            silent_s=self.silent_s,
        )
        clouds = Clouds(self.engines, self.stats, self.silent_s)
        self.fallbacks = Fallbacks(self.routing, clouds, self.stats)
        for pushed in self._pushed:
            with suppress(RedisError, OSError):  # `run` says so and tries again
                await pushed.read_key()
        await self._ask_engines()
        for work in (
            self.engines.watch(),
            self.keys.keep(),
            self.orders.run(),
            *(pushed.run() for pushed in self._pushed),
            self.models.run(),
            self.memory.run(),
            self.records.run(self.stats, self._told),
        ):
            self._tasks.add(asyncio.create_task(work))

    async def _ask_engines(self) -> None:
        await self.engines.probe()
        await self.models.look(time.monotonic())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        with suppress(RedisError, OSError):
            await self.records.flush()
        await self.records.client.aclose()
        self.keys.save()
        for pushed in (*self._pushed, self.orders):
            await pushed.client.aclose()
        self.frames.close()
        await self.sessions.close()

    @property
    def _pushed(self) -> tuple[Pushed, ...]:
        """What has a state, which is read at the start."""
        return self.added, self.profiles, self.aliases, self.zones, self.keys

    def _told(self) -> dict[str, Any]:
        """What is told each second beside the rates."""
        now, active = time.monotonic(), self.profiles.active
        self.cache.drop_old(self.profiles.longest_ttl_s(self.cache.ttl_s), now)
        profile = {"name": active.name, "cache": active.cache, "ttl_s": active.cache_ttl_s}
        cache = {**self.cache.as_json(now), "profile": profile, "zones": self.zones.distances}
        access = {"require": self.access.require, "n_refused": self.access.n_refused}
        engines = [each.health() for each in self.engines.engines]
        return {
            "engine": self.engines.current.as_dict(),
            "engines": engines,
            "cache": cache,
            "access": access,
        }

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        found = dict(headers)
        client = (
            found.get(b"x-aicleaner-client") or found.get(b"user-agent", b"unknown").split(b" ")[0]
        ).decode("latin-1")[:100]
        ip = scope["client"][0] if scope.get("client") else ""
        meter = Meter(os.urandom(16).hex(), scope["path"], client, ip, counted=is_inference(scope))
        meter.origin = found.get(b"origin", b"")
        meter.is_foreign = bool(meter.origin) and not self.origins.welcomes(meter.origin.decode("latin-1"))
        # A client without a Host is no browser, which alone could be deceived by a name: Ollama serves it too.
        host = found.get(b"host", b"").decode("latin-1")
        if self.local_only and host and not is_local(host):
            await respond(send, meter, 403, b"", "text/plain")
            return
        if not scope["path"].startswith("/"):  # OPTIONS *
            await respond(send, meter, 404, b"404 page not found", "text/plain")
            return
        if MARK in found and (MARK, self.mark.encode()) in headers:
            text = "this gateway is its own engine: OLLAMA_HOST has to name an Ollama server, not the gateway"
            await send_error(send, meter, 508, text)
            return
        refusal = self.access.enter(scope, found, meter)
        if refusal is not None:
            await self.access.refuse(refusal, meter, send)
            return
        if meter.counted:
            self.stats.n_in_flight += 1
        forward = asyncio.current_task()
        assert forward is not None
        watch: asyncio.Task[None] | None = None
        try:
            pinned = self.routing.asked_for(found.get(b"x-aicleaner-engine", b"").decode("latin-1"))
            meter.is_pinned = pinned is not None
            if pinned is not None and pinned.is_cloud and not meter.counted:
                raise UnknownEngineError(
                    f"x-aicleaner-engine: {pinned.name} is a cloud: it only answers for models"
                )
            length = int(found.get(b"content-length", b"0") or 0)
            if scope["path"].startswith("/api/blobs/") and scope["method"] == "POST":
                upload = Upload(receive, length)
                await self.forwarding.forward(scope, upload, meter, send, pinned or self.engines.current)
            else:
                body = await read_body(receive, length, self.max_body)
                values = meter.read_request(body)
                if meter.key is not None and meter.counted:
                    refusal = self.access.body_refused(meter.key, values, meter)
                    if refusal is not None:
                        await self.access.refuse(refusal, meter, send)
                        return
                watch = asyncio.create_task(_cancel_when_gone(receive, forward, meter, self.cache))
                if values is not None:
                    await self._infer(scope, values, body, meter, send, pinned)
                elif pinned is not None:
                    await self.forwarding.forward(scope, body, meter, send, pinned)
                elif self.union.wants(scope["method"], scope["path"]) and not meter.is_foreign:
                    await respond(
                        send, meter, 200, await self.union.answer(scope["path"]), "application/json"
                    )
                else:
                    engine = self.routing.of_one_model(scope["path"], body) or self.engines.current
                    await self.forwarding.forward(scope, body, meter, send, engine)
        except TooLargeError as error:
            meter.error = str(error)
            await send_error(send, meter, 413, meter.error)
        except UnknownEngineError as error:
            meter.error = str(error)
            await send_error(send, meter, 400, meter.error)
        except RecursionError:  # JSON so deep that it could just be read, but not be written again
            meter.error = "exceeded max depth"
            await send_error(send, meter, 400, meter.error)
        except ClientGoneError:
            meter.error = GONE
        except asyncio.CancelledError:
            if watch is None or not watch.done():
                raise  # the server shuts down
            meter.error = GONE
            forward.uncancel()
        finally:
            if watch is not None:
                watch.cancel()
            if scope["path"] in CHANGES:
                self.models.forget()
            if meter.counted:
                self._finished(meter)

    def _finished(self, meter: Meter) -> None:
        self.stats.n_in_flight -= 1
        if meter.first_byte is not None:
            self.stats.n_answering -= 1
        record = meter.record()
        if meter.asked is not None:
            self.loads.note(
                full_name(meter.model), meter.asked, record, started=meter.started, now=time.monotonic()
            )
        if meter.recording is not None:
            self.cache.settle(meter.recording, record, time.monotonic())
        if meter.left:
            record["error"] = record["error"] or GONE
        if meter.slot is not None:
            finished = meter.complete and meter.status == 200 and not meter.left
            self.slots.ended(meter.slot, meter.request_id, finished=finished, left=meter.left)
        if meter.key is not None:
            self.access.finish(meter.key, meter, record)
        self.cache.stats.finished(full_name(meter.model), meter.zone, record, meter.saved_ms)
        self.stats.finished(record, meter.n_chunks, asyncio.get_running_loop().time(), meter.saved_ms)
        self.records.add(record)

    async def _infer(
        self,
        scope: Scope,
        values: dict[str, Any],
        body: bytes,
        meter: Meter,
        send: Send,
        pinned: Engine | None,
    ) -> None:
        """A request for a model: what its name stands for, the profile's options, the cache, its turn, the engine.
        `pinned`: the one that it names; the name of the model stands for itself there."""
        headers = dict(scope["headers"])
        alias = self.aliases.find(meter.model) if pinned is None else None
        fallback = None if alias is None else alias.fallback
        if alias is not None and alias.target and (fallback or self.models.may_have(alias.target)):
            body = splice(body, values, {"model": alias.target})
            values["model"] = alias.target
            meter.alias, meter.model = meter.model, alias.target
        model = full_name(meter.model)
        listed_by = pinned or self.models.engine_of(model)
        engine = listed_by or self.engines.current
        meter.route = AS_ASKED if pinned is not None else ""
        named = headers.get(b"x-aicleaner-profile", b"").decode("latin-1")
        try:
            profile = self.profiles.choose(named)
        except UnknownProfileError as error:
            meter.error = str(error)
            await send_error(send, meter, 400, meter.error)
            return
        body = self._with_options_of(profile, engine, model, values, body, meter)
        if meter.is_foreign and meter.key is None:
            # Any site can make its visitors' browsers ask here: what costs money is not done for it.
            fallback = None
            if engine.is_cloud:
                meter.error = "a page of another site may not ask a cloud"
                await respond(send, meter, 403, b"", "text/plain")
                return
        if engine.is_cloud:
            await self.fallbacks.ask(engine, self.models.cloud_name(engine, model), values, meter, send)
            return
        if fallback is not None and await self.fallbacks.went_up(
            fallback, model, listed_by, values, meter, send
        ):
            return
        self.memory.used(engine.url, model, time.monotonic())
        digest = None if meter.is_foreign else self.models.digest(engine.url, model)
        if digest and self.cache.wants(profile, meter.path, values, headers.get(b"cache-control", b"")):
            meter.zone = headers.get(b"x-aicleaner-zone", b"").decode("latin-1").strip()
            where = (meter.path, engine.url, digest, values)
            key = key_of(*where)
            entry, frame = await self._kept(key, where, profile, meter)
            if entry is not None:
                meter.engine, meter.engine_kind, meter.engine_name = engine.url, engine.kind, engine.name
                self.stats.n_answering += 1
                await replay(entry, meter, send)
                return
            meter.cache, meter.recording = "miss", self.cache.record(key, engine.url, model, frame)
            send = _recorded(meter.recording, send)
        arrived = time.monotonic()
        try:
            async with self.gate.turn(
                model, lambda: (profile if named else self.profiles.active).parallel
            ) as waited:
                if waited:
                    meter.waited_ms = (time.monotonic() - arrived) * 1000
                self._note_start(engine, model, values, meter)
                await self.forwarding.forward(scope, body, meter, send, engine, fallback)
        except TooManyWaitingError as error:
            meter.error = str(error)
            await send_error(send, meter, 503, meter.error)
        except EngineFailedError as error:
            if meter.slot is not None:  # what a cloud answers says nothing of it
                self.slots.ended(meter.slot, meter.request_id, finished=False, left=False)
                meter.slot = None
            await self.fallbacks.help_out(fallback, error, values, meter, send)

    def _with_options_of(
        self, profile: Profile, engine: Engine, model: str, values: dict[str, Any], body: bytes, meter: Meter
    ) -> bytes:
        """The body with what the profile adds to it; `values` and the record get it too."""
        meter.profile = None if profile.name == NONE.name else profile.name
        fields = fill(
            profile,
            meter.path,
            values,
            names=(meter.alias, meter.model),
            one_thread=self.models.on_one_thread(engine, model),
        )
        if fields:
            body = splice(body, values, fields)
            values |= fields
            if meter.path.startswith("/v1/"):
                meter.ignored = ",".join(loading_options(fields))
        meter.prompt_bytes = prompt_bytes(values)
        if self.keep_prompt and self.records.takes_prompts:
            meter.prompt, meter.prompt_shortened = prompt_text(values, self.keep_prompt)
        return body

    def _note_start(self, engine: Engine, model: str, values: dict[str, Any], meter: Meter) -> None:
        """What the request loads the model with, and that it waits for a slot of it."""
        # Ollama's /v1 has no place for options: whatever stands there loads nothing.
        deaf = engine.kind == "ollama" and meter.path.startswith("/v1/")
        meter.asked = {} if deaf else load_options(values)
        meter.kept_tokens = kept_tokens({} if deaf else values)
        if engine.kind == "ollama":
            meter.slot = (engine.url, model)
            self.slots.asked(meter.slot, meter.request_id, time.monotonic())

    async def _kept(
        self, key: bytes, where: tuple[str, str, str, dict[str, Any]], profile: Profile, meter: Meter
    ) -> tuple[Entry | None, Frame | None]:
        """A kept answer; else, in a zone with a distance, the pictures to keep the new one by."""
        entry = await self.cache.find(key, profile, time.monotonic())
        meter.zone, limit = self.zones.shared_by(meter.zone, meter.key)
        if entry is not None or limit is None:
            return entry, None
        frame = await self.frames.read(*family_of(meter.zone, *where))
        entry = await self.cache.find(key, profile, time.monotonic())  # somebody may have asked meanwhile
        if entry is None and frame is not None:
            entry, meter.distance = self.cache.find_near(frame, limit, profile, time.monotonic())
        return entry, frame


async def _cancel_when_gone(
    receive: Receive, forward: "asyncio.Task[Any]", meter: Meter, cache: Cache
) -> None:
    """A client that leaves takes its request to the engine along; that stops the generation, unless others wait for it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if meter.complete:  # the end of the answer reads the same
        return
    meter.left = True
    if meter.recording is None or not cache.goes_on(meter.recording, forward.cancel):
        forward.cancel()


def _recorded(recording: Recording, send: Send) -> Send:
    async def send_and_keep(message: Message) -> None:
        recording.see(message)
        await send(message)

    return send_and_keep
