"""The models of the engine in use: digest and size by name, and the memory that the loaded ones take."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from inference.gateway.engines import Engines
from inference.gateway.loads import Loads
from inference.gateway.profile import Gate, Profile

TAGS_EVERY_S, LOOK_EVERY_S = 10.0, 1.0
TIMEOUT_S = 3.0
# The embedded engine runs smaller models on one thread: more of them would only wait for each other.
ONE_THREAD_BYTES = 64 * 2**20
# After these a name may stand for another model.
CHANGES = frozenset({"/api/create", "/api/copy", "/api/delete", "/api/pull"})
log = logging.getLogger("inference.gateway")


class Models:
    """What `/api/tags` said last, for the engine it said it of."""

    def __init__(
        self,
        engines: Engines,
        session: aiohttp.ClientSession,
        gate: Gate,
        loads: Loads,
        profile: Callable[[], Profile],
    ) -> None:
        self.engines, self.session, self.profile = engines, session, profile
        self.gate, self.loads = gate, loads
        self.last_used: dict[str, float] = {}  # monotonic instant of the last request, by full name
        self._tags: dict[str, tuple[str, int]] = {}  # full name -> digest, bytes
        self._tags_of = ""
        self._asked = -TAGS_EVERY_S
        self._failed = False

    def digest(self, engine_url: str, name: str) -> str | None:
        """None: the engine has not said so, or a request has changed its models since."""
        found = self._tags.get(full_name(name)) if engine_url == self._tags_of else None
        return found[0] if found else None

    def may_have(self, engine_url: str, name: str) -> bool:
        """False when the engine has listed its models without this one."""
        return not self._tags or engine_url != self._tags_of or full_name(name) in self._tags

    def on_one_thread(self, name: str) -> bool:
        engine = self.engines.current
        found = self._tags.get(full_name(name)) if engine.url == self._tags_of else None
        return engine.kind == "embedded" and found is not None and found[1] < ONE_THREAD_BYTES

    def forget(self) -> None:
        self._tags, self._asked = {}, -TAGS_EVERY_S

    async def run(self) -> None:
        """Ask for the models every TAGS_EVERY_S, and hold the loaded ones to the profile's memory limits."""
        while True:
            try:
                await self.look(time.monotonic())
                self._failed = False
            except Exception:  # whatever an engine answers: it is asked again
                if not self._failed:
                    log.exception("asking the engine for its models failed; it is tried again")
                self._failed = True
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, now: float) -> None:
        """Raises what aiohttp raises, and ValueError and the like for an answer that makes no sense."""
        engine = self.engines.current
        if not engine.up:
            return
        is_due = now - self._asked >= TAGS_EVERY_S or engine.url != self._tags_of
        if is_due:
            if engine.url != self._tags_of:
                self.loads.keep(())  # another engine chooses for itself
            self._asked = now  # before the answer: a change meanwhile asks again
            tags = (await self._get(f"{engine.url}/api/tags")).get("models") or []
            found = {full_name(each["name"]): (str(each["digest"]), int(each["size"])) for each in tags}
            if self._asked == now:
                self._tags, self._tags_of = found, engine.url
                self.last_used = {name: at for name, at in self.last_used.items() if name in found}
                self.loads.keep(found)
        profile = self.profile()
        is_limited = profile.memory_bytes is not None or profile.vram_bytes is not None
        if is_limited or is_due:
            loaded = await self._loaded(engine.url, needed=is_limited)
            for each in loaded:
                if size := int(each.get("context_length") or 0):  # older servers don't tell it
                    model = full_name(each["name"])
                    self.loads.see(model, size, idle=not self.gate.running[model])
            name = self.too_much(loaded, profile)
            if name is not None:
                log.info("%s is unloaded: the loaded models exceed the limits of %s", name, profile.name)
                body = {"model": name, "keep_alive": 0}
                async with self.session.post(
                    f"{engine.url}/api/generate", json=body, timeout=_timeout()
                ) as answer:
                    await answer.read()

    def too_much(self, loaded: list[dict[str, Any]], profile: Profile) -> str | None:
        """The least recently used idle model when the loaded ones together exceed a limit. One alone stays."""
        size, vram = (sum(int(each.get(key) or 0) for each in loaded) for key in ("size", "size_vram"))
        over_memory = profile.memory_bytes is not None and size > profile.memory_bytes
        over_vram = profile.vram_bytes is not None and vram > profile.vram_bytes
        if len(loaded) < 2 or not (over_memory or over_vram):
            return None
        busy = {full_name(name) for name in self.gate.running}
        idle = [str(each["name"]) for each in loaded if full_name(each["name"]) not in busy]
        return min(idle, key=lambda name: self.last_used.get(full_name(name), 0.0), default=None)

    async def _loaded(self, engine_url: str, *, needed: bool) -> list[dict[str, Any]]:
        """Only limits need it: the size of a context is as well unknown."""
        try:
            return (await self._get(f"{engine_url}/api/ps")).get("models") or []
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError):
            if needed:
                raise
            return []

    async def _get(self, url: str) -> dict[str, Any]:
        async with self.session.get(url, timeout=_timeout()) as answer:
            return dict(await answer.json(content_type=None))


def full_name(name: str) -> str:
    """`llava` is `llava:latest`."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=TIMEOUT_S)
