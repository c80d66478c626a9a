"""The models of the engine in use: digest and size by name."""

import asyncio
import logging
import time
from typing import Any

import aiohttp

from inference.gateway.engines import Engines
from inference.gateway.loads import Loads
from inference.gateway.profile import Gate
from inference.names import full_name

TAGS_EVERY_S, LOOK_EVERY_S = 10.0, 1.0
TIMEOUT_S = 3.0
# The embedded engine runs smaller models on one thread: more of them would only wait for each other.
ONE_THREAD_BYTES = 64 * 2**20
# After these a name may stand for another model.
CHANGES = frozenset({"/api/create", "/api/copy", "/api/delete", "/api/pull"})
log = logging.getLogger("inference.gateway")


class Models:
    """What `/api/tags` said last, for the engine it said it of."""

    def __init__(self, engines: Engines, session: aiohttp.ClientSession, loads: Loads, gate: Gate) -> None:
        self.engines, self.session, self.loads, self.gate = engines, session, loads, gate
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
        """Ask for the models every TAGS_EVERY_S."""
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
        if engine.up and (now - self._asked >= TAGS_EVERY_S or engine.url != self._tags_of):
            if engine.url != self._tags_of:
                self.loads.keep(())  # another engine chooses for itself
            self._asked = now  # before the answer: a change meanwhile asks again
            tags = (await ask(self.session, f"{engine.url}/api/tags")).get("models") or []
            found = {full_name(each["name"]): (str(each["digest"]), int(each["size"])) for each in tags}
            if self._asked == now:
                self._tags, self._tags_of = found, engine.url
                self.loads.keep(found)
            for each in (await ask(self.session, f"{engine.url}/api/ps")).get("models") or []:
                if size := int(each.get("context_length") or 0):  # older servers don't tell it
                    model = full_name(each["name"])
                    self.loads.see(model, size, idle=not self.gate.running[model])


async def ask(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as answer:
        return dict(await answer.json(content_type=None))
