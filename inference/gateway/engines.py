"""The engines: which there are, which of them answer, and which one is in use.

Those of the settings come with the command line, those of people are pushed by the console (docs/engines.md)."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from inference.gateway.probing import Probe, probe
from inference.gateway.sessions import Sessions

PROBE_EVERY_S = 2.0
# A cloud is asked for its models: that it has them, and whether the key is right, changes seldom.
CLOUD_EVERY_S, CLOUD_AGAIN_S = 60.0, 10.0
KEEP_LATENCIES = 30
LOCAL, CLOUD = ("ollama", "embedded"), "openai"
SETTINGS_PRIORITY = {"ollama": 10, "embedded": 90}
log = logging.getLogger("inference.gateway")


@dataclass(eq=False)
class Engine:
    """`name` is what requests, records and pages call it. Instants are unix times, but for `asked`."""

    kind: str
    url: str
    name: str = ""
    priority: int = 50
    added: bool = False  # by a person: only allowed addresses are connected to
    sealed: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    budget_usd: float | None = None
    spent_usd: float = 0.0  # in `month`, as the console has counted
    month: str = ""
    version: str | None = None
    up: bool = False
    n_models: int | None = None
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEEP_LATENCIES))
    error: str = ""  # the last one, which may be over
    error_at: float | None = None
    asked: float = float("-inf")

    def __post_init__(self) -> None:
        self.name = self.name or self.kind
        if not self.added:
            self.priority = SETTINGS_PRIORITY[self.kind]

    @property
    def is_cloud(self) -> bool:
        return self.kind == CLOUD

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "url": self.url, "version": self.version, "up": self.up}

    def health(self) -> dict[str, Any]:
        """For the page of engines."""
        return {
            **self.as_dict(),
            "name": self.name,
            "n_models": self.n_models,
            "latency_ms": self.latencies[-1] if self.latencies else None,
            "recent_ms": sorted(self.latencies)[len(self.latencies) // 2] if self.latencies else None,
            "error": self.error,
            "error_at": self.error_at,
            "asked": self.asked > float("-inf"),
        }

    def failed(self, error: str, at: float) -> None:
        self.error, self.error_at = error[:300], at

    def budget_is_used_up(self, now: float) -> bool:
        """`now`: unix time. What was counted for an earlier month is over."""
        spent = self.spent_usd if self.month == month_of(now) else 0.0
        return self.budget_usd is not None and spent >= self.budget_usd


def month_of(now: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(now))


class Engines:
    """In order of preference: local ones by priority, then clouds. `current` is never None: it is the first local one that
    answers, and with all of them down it stays the last that did."""

    def __init__(self, engines: list[Engine], sessions: Sessions, headers: dict[str, str]) -> None:
        """`headers`: by which the gateway knows its own questions, when it is named as its own engine."""
        self.own = engines
        self.engines = list(engines)
        self.sessions, self.headers = sessions, headers
        self.current = engines[-1]
        self.on_change: Callable[[], None] = lambda: None  # which ones there are, or answer
        self._probed_at = 0.0
        self._lock = asyncio.Lock()
        self._sort()

    @property
    def local(self) -> list[Engine]:
        return [each for each in self.engines if not each.is_cloud]

    def named(self, name: str) -> Engine | None:
        return next((each for each in self.engines if each.name == name), None)

    def set_added(self, engines: list[Engine]) -> bool:
        """Those of people, all of them. What is known of one that stays the same is kept. Whether there is a new one."""
        before = {each.name: each for each in self.engines if each.added}
        kept = []
        for each in engines:
            old = before.get(each.name)
            if old is not None and (old.kind, old.url, old.key) == (each.kind, each.url, each.key):
                old.priority, old.sealed = each.priority, each.sealed
                old.budget_usd, old.spent_usd, old.month = each.budget_usd, each.spent_usd, each.month
                each = old
            kept.append(each)
        self.engines = [*self.own, *kept]
        self._sort()
        return any(each not in before.values() for each in kept)

    def _sort(self) -> None:
        self.engines.sort(key=lambda each: (each.is_cloud, each.priority, each.name))
        self._choose()

    def _choose(self) -> None:
        if self.current not in self.engines:
            self.current = self.own[-1]
        self.current = next((each for each in self.engines if each.up and not each.is_cloud), self.current)
        self.on_change()

    async def watch(self) -> None:
        while True:
            try:
                await self.probe()
            except Exception:  # a probe that fails in a new way must not end the watch
                log.exception("asking the engines failed")
            await asyncio.sleep(PROBE_EVERY_S)

    async def probe(self, newer_than: float = 0.0) -> None:
        """Ask all local ones; asks of the same moment share one probe (`newer_than`: monotonic instant it has to be after).
        Clouds are asked beside it, when it is their time: nobody waits for them."""
        async with self._lock:
            if newer_than and self._probed_at > newer_than:
                return
            before = [each for each in self.engines if each.up]
            await asyncio.gather(*(self._ask(each) for each in self.local))
            self._probed_at = time.monotonic()
            if before != [each for each in self.engines if each.up]:
                self._choose()

    async def _ask(self, engine: Engine) -> None:
        _, fresh = self.sessions.both(added=engine.added)
        self._note(engine, await probe(fresh, engine.kind, engine.url, headers=self.headers))

    def session_of(self, engine: Engine) -> aiohttp.ClientSession:
        """Of kept connections."""
        return self.sessions.both(added=engine.added)[0]

    def _note(self, engine: Engine, found: Probe) -> None:
        engine.up, engine.asked = not found.problem, time.monotonic()
        engine.version = found.version or engine.version
        if found.problem:
            engine.failed(found.problem, time.time())
        elif found.latency_ms is not None:
            engine.latencies.append(found.latency_ms)

    async def ask_cloud(self, engine: Engine) -> Probe:
        found = await probe(self.session_of(engine), engine.kind, engine.url, engine.key)
        was_up = engine.up
        self._note(engine, found)
        if engine.up != was_up:
            self.on_change()
        return found


def is_due(cloud: Engine, now: float) -> bool:
    return now - cloud.asked >= (CLOUD_EVERY_S if cloud.up else CLOUD_AGAIN_S)
