"""Keeps the loaded models of all local engines within their limits, and tells what came and went.

The only place that unloads by itself; `eviction.choose` says what. Nothing of it is waited for by a request."""

import asyncio
import ipaddress
import json
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import redis.asyncio
from redis.exceptions import RedisError

from inference.gateway.engines import Engine, Engines
from inference.gateway.eviction import Key, Limits, Loaded, Room, Rules, choose, read_loaded
from inference.gateway.kept import KEPT_KEY, STATE_KEY, kept_field
from inference.gateway.models import TIMEOUT_S, ask
from inference.gateway.profile import NONE, Gate, Profiles
from inference.gateway.routing import Pressure
from inference.gateway.slots import Slots, ollama_runners_cpu_s
from inference.instants import read_instant
from inference.names import full_name

LOOK_EVERY_S = 1.0
NEWS_STREAM = "aicleaner:gateway:models"  # what came and went, for the event log
MAX_NEWS = 1000
SAMPLE_KEY = "aicleaner:live:last"  # the collector's newest sample: what it reads of GPUs
FRESH_S = 10.0
GONE_WITHIN_S, TRY_AGAIN_S = 15.0, 60.0
JUST_OVER_S = 2.0  # so near its end a model's time counts as over: looks are a second apart
log = logging.getLogger("inference.gateway")


def is_here(url: str) -> bool:
    """Whether the engine runs on this machine: the room of another one is unknown."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    own = {each.address for found in psutil.net_if_addrs().values() for each in found}
    return address.is_loopback or str(address) in own


class Memory:
    """`used` is called by requests, `look` once a second by one task."""

    def __init__(
        self,
        engines: Engines,
        gate: Gate,
        profiles: Profiles,
        client: "redis.asyncio.Redis",
        rules: Rules,
        slots: Slots,
    ) -> None:
        self.engines, self.gate, self.profiles = engines, gate, profiles
        self.client, self.rules, self.slots = client, rules, slots
        self.last_used: dict[Key, float] = {}
        self._loaded: dict[Key, Loaded] = {}
        self._leaving: dict[Key, float] = {}  # asked to go: not asked again before this instant
        self.pressure = Pressure()
        self._here: dict[str, bool] = {}  # by address of the engine
        self._moved: set[Key] = set()  # used since the last look, by whichever way
        self._gone: set[Key] = set()  # whose marks are to be taken away
        self._until: dict[str, float] = {}  # what people keep, as Valkey said last
        self._untold: deque[dict[str, Any]] = deque(maxlen=MAX_NEWS)  # news that wait for Valkey
        self._failed = False

    def used(self, url: str, model: str, now: float) -> None:
        self.last_used[url, model] = now

    def _is_here(self, url: str) -> bool:
        if url not in self._here:
            self._here[url] = is_here(url)
        return self._here[url]

    async def run(self) -> None:
        while True:
            try:
                await self.look(time.monotonic(), time.time())
                self._failed = False
            except (RedisError, OSError) as error:
                if not self._failed:
                    log.warning("Valkey is away (%s): news of the models wait here", error)
                self._failed = True
            except Exception:  # this task must outlive whatever comes: nothing else holds the limits
                if not self._failed:
                    log.exception("looking after the loaded models failed; it is tried again")
                self._failed = True
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, now: float, at: float) -> None:
        """`now` by the monotonic clock, `at` as unix time. Raises RedisError."""
        asked = [each for each in self.engines.local if each.up]
        answers = await asyncio.gather(*(self._ask(each) for each in asked))
        told = {each.url for each, answer in zip(asked, answers, strict=True) if answer is not None}
        loaded = {each.key: each for answer in answers for each in answer or ()}
        news = self._compare(loaded, told, now, at)
        busy = self._busy(loaded, now)
        kept = await self._kept(at)
        limits = self._limits()
        memory, vram, gpu_note = self._memory(), *await self._vram(at)
        levels = [each.level for each in (memory, vram) if each is not None]
        self.pressure.level = next((level for level in ("high", "some") if level in levels), "none")
        news += await self._free_stuck(loaded, now, at)
        eviction = choose(
            [each for key, each in loaded.items() if self._leaving.get(key, now) <= now],
            self.last_used,
            now,
            busy=busy,
            kept=kept,
            rules=self.rules,
            limits=limits,
            memory=memory,
            vram=vram,
        )
        if eviction is not None:
            problem = await self._unload(eviction.model, now)
            news.append(_unloaded(eviction.model, at, eviction.reason, who="automatic", problem=problem))
        state = {
            "at": at,
            "in_use": self.engines.current.url,
            "loaded": [self._as_json(each, now, at, busy, kept) for each in loaded.values()],
            "memory": _room(memory),
            "vram": _room(vram),
            "vram_note": gpu_note,
            "remote": sorted(url for url in told if not self._is_here(url)),
            "limits": asdict(limits),
            "rules": asdict(self.rules),
        }
        await self._tell(state, news)

    async def _free_stuck(self, loaded: dict[Key, Loaded], now: float, at: float) -> list[dict[str, Any]]:
        suspects = [key for key in self.slots.suspects(loaded) if self._leaving.get(key, now) <= now]
        if not suspects:
            return []
        cpu_s = await asyncio.to_thread(ollama_runners_cpu_s)
        news = []
        for key, n in self.slots.stuck(suspects, now, cpu_s, lambda key: self._is_here(key[0])).items():
            self.slots.freed(key)
            problem = await self._unload(loaded[key], now)
            waited = "1 request waited" if n == 1 else f"{n} requests waited"
            reason = f"its slot was stuck: {waited} in vain after a client had left amid an answer"
            news.append(_unloaded(loaded[key], at, reason, who="automatic", problem=problem))
        return news

    async def _ask(self, engine: Engine) -> list[Loaded] | None:
        """None: it does not answer, or not with sense."""
        try:
            answer = await ask(self.engines.session_of(engine), f"{engine.url}/api/ps")
            return read_loaded(engine.url, engine.name, answer, is_here=self._is_here(engine.url))
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _compare(
        self, loaded: dict[Key, Loaded], told: set[str], now: float, at: float
    ) -> list[dict[str, Any]]:
        """News since the last look, at engines that answered; notes what was used behind the gateway's back."""
        before = {key: each for key, each in self._loaded.items() if key[0] in told}
        gone, come = before.keys() - loaded.keys(), loaded.keys() - before.keys()
        news: list[dict[str, Any]] = []
        self._moved = set()
        for key in gone:
            asked = self._leaving.pop(key, None) is not None
            reason = "" if asked else self._why_gone(before[key], before, [loaded[each] for each in come], at)
            if reason:
                news.append(_unloaded(before[key], at, reason, who="engine"))
            self.last_used.pop(key, None)
        for key, each in loaded.items():
            # The end of an idle model's time stands still; a request moves it, whichever way it came.
            if key not in before or before[key].expires_at != each.expires_at:
                self.last_used[key] = now
                if key in before:
                    self._moved.add(key)
        if gone or come:
            news.append({"what": "changed", "at": at})
        self._loaded = {**{k: v for k, v in self._loaded.items() if k[0] not in told}, **loaded}
        self._gone |= gone
        return news

    def _why_gone(self, model: Loaded, before: dict[Key, Loaded], come: list[Loaded], at: float) -> str:
        """Empty: somebody asked for it."""
        expiry = read_instant(model.expires_at)
        if expiry is not None and expiry.timestamp() <= at + JUST_OVER_S:
            return "its keep-alive was over"
        others = [each for each in come if each.url == model.url]
        n_before = sum(key[0] == model.url for key in before)
        was_full = model.engine != "embedded" or n_before >= (self.rules.max_loaded or 1)
        return f"it left early, as {others[0].name} was loaded" if others and was_full else ""

    def _busy(self, loaded: dict[Key, Loaded], now: float) -> set[Key]:
        running = {full_name(name) for name in self.gate.running}
        busy = {key for key in loaded if key[1] in running} | self._moved
        self.last_used |= dict.fromkeys(busy, now)
        return busy

    async def _kept(self, at: float) -> set[Key]:
        """While Valkey is away the last word holds."""
        with suppress(RedisError, OSError):
            if self._gone:
                await self.client.hdel(KEPT_KEY, *(kept_field(*key) for key in self._gone))
                self._gone = set()
            if self._loaded:
                raw: Any = await self.client.hgetall(KEPT_KEY)
                self._until = {field.decode(): float(value) for field, value in raw.items()}
        return {key for key in self._loaded if self._until.get(kept_field(*key), 0.0) > at}

    def _limits(self) -> Limits:
        profile = self.profiles.active
        name = "" if profile.name == NONE.name else profile.name
        return Limits(profile.memory_bytes, profile.vram_bytes, name)

    def _memory(self) -> Room:
        found = psutil.virtual_memory()
        return Room(int(found.available), int(found.total))

    async def _vram(self, at: float) -> tuple[Room | None, str]:
        """(all GPUs together, why it is unknown)."""
        try:
            raw = await self.client.get(SAMPLE_KEY)
        except (RedisError, OSError):
            return None, "Valkey, by which the collector tells of GPUs, is away"
        sample = json.loads(raw) if raw else {}
        if at - float(sample.get("at") or 0.0) > FRESH_S:
            return None, "the collector, which reads the GPUs, does not run"
        values: dict[str, float | None] = sample.get("v") or {}
        used, total = (
            [value for name, value in values.items() if name.startswith(f"gpu_memory_{what}_bytes{{")]
            for what in ("used", "total")
        )
        known = [each for each in (*used, *total) if each is not None]
        if not total or len(known) != 2 * len(total):
            return None, str((sample.get("state") or {}).get("gpu_reason") or "no GPU tells its memory")
        all_used, all_total = (int(sum(each or 0 for each in found)) for found in (used, total))
        return Room(max(all_total - all_used, 0), all_total), ""

    async def _unload(self, model: Loaded, now: float) -> str:
        """What went wrong, or nothing. A request that came meanwhile is answered first: the engine waits for it."""
        body = {"model": model.name, "keep_alive": 0}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        problem = ""
        try:
            engine = next((each for each in self.engines.engines if each.url == model.url), None)
            if engine is None:
                return "it was taken out of use"
            session = self.engines.session_of(engine)
            async with session.post(f"{model.url}/api/generate", json=body, timeout=timeout) as answer:
                said = await answer.text()
                if answer.status != 200:
                    problem = f"the engine answered {answer.status}: {said[:200]}"
        except (aiohttp.ClientError, OSError) as error:
            problem = f"the engine does not answer: {str(error) or type(error).__name__}"
        self._leaving[model.key] = now + (TRY_AGAIN_S if problem else GONE_WITHIN_S)
        return problem

    def _as_json(
        self, model: Loaded, now: float, at: float, busy: set[Key], kept: set[Key]
    ) -> dict[str, Any]:
        return {
            "engine": model.engine,
            "url": model.url,
            "name": model.name,
            "memory_bytes": model.memory_bytes,
            "vram_bytes": model.vram_bytes,
            "expires_at": model.expires_at,
            "busy": model.key in busy,
            "kept": model.key in kept,
            "last_used": at - (now - self.last_used.get(model.key, now)),
        }

    async def _tell(self, state: dict[str, Any], news: list[dict[str, Any]]) -> None:
        self._untold.extend(news)
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set(STATE_KEY, json.dumps(state), ex=int(FRESH_S))
        for each in self._untold:
            pipeline.xadd(NEWS_STREAM, {"n": json.dumps(each)}, maxlen=MAX_NEWS, approximate=False)
        await pipeline.execute()
        self._untold.clear()


def _unloaded(model: Loaded, at: float, reason: str, *, who: str, problem: str = "") -> dict[str, Any]:
    log.info("%s is unloaded: %s%s", model.name, reason, f", but {problem}" if problem else "")
    return {
        "what": "unload",
        "at": at,
        "who": who,
        "engine": model.engine,
        "model": model.name,
        "reason": reason,
        "problem": problem,
    }


def _room(room: Room | None) -> dict[str, Any] | None:
    if room is None:
        return None
    return {"free_bytes": room.free_bytes, "total_bytes": room.total_bytes, "level": room.level}
