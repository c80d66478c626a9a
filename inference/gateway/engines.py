"""Which engine is in use: the first of the list that answers."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

PROBE_EVERY_S = 2.0
PROBE_TIMEOUT_S = 1.5
log = logging.getLogger("inference.gateway")


@dataclass
class Engine:
    kind: str
    url: str
    version: str | None = None
    up: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "url": self.url, "version": self.version, "up": self.up}


class Engines:
    """In order of preference. `current` is never None: with all of them down it stays the last that answered."""

    def __init__(
        self, engines: list[Engine], session: aiohttp.ClientSession, headers: dict[str, str]
    ) -> None:
        """`headers`: by which the gateway knows its own questions, when it is named as its own engine."""
        self.engines, self.session, self.headers = engines, session, headers
        self.current = engines[-1]
        self._probed_at = 0.0
        self._lock = asyncio.Lock()

    async def watch(self) -> None:
        while True:
            try:
                await self.probe()
            except Exception:  # a probe that fails in a new way must not end the watch
                log.exception("asking the engines failed")
            await asyncio.sleep(PROBE_EVERY_S)

    async def probe(self, newer_than: float = 0.0) -> None:
        """Ask all; asks of the same moment share one probe (`newer_than`: monotonic instant it has to be after)."""
        async with self._lock:
            if newer_than and self._probed_at > newer_than:
                return
            await asyncio.gather(*(self._ask(each) for each in self.engines))
            self._probed_at = time.monotonic()
            self.current = next((each for each in self.engines if each.up), self.current)

    async def _ask(self, engine: Engine) -> None:
        try:
            async with self.session.get(
                f"{engine.url}/api/version",
                timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S),
                headers=self.headers,
            ) as answer:
                engine.version = (await answer.json(content_type=None)).get("version")
                engine.up = answer.status == 200 and bool(engine.version)
        except (aiohttp.ClientError, OSError, ValueError, AttributeError):
            engine.up = False
