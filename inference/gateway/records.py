"""Hands finished requests to the worker side by a Valkey stream; the request path never waits for it."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from inference.gateway.stats import Stats

STREAM = "aicleaner:gateway:records"
STATS_KEY = "aicleaner:gateway:stats"
REFUSED_KEY = "aicleaner:gateway:refused"  # entries that the worker could not make rows of
MAX_PENDING = 20_000  # held here while Valkey is away
MAX_STREAM = 100_000  # held there while nobody reads them into the database
BATCH = 500
# Prompts are left out while more records than this wait: kept ones are large, and both places hold them in memory.
MAX_WAITING_PROMPTS = 1000
log = logging.getLogger("inference.gateway")


class Records:
    """`add` is called by requests; `flush` and `publish` by one task each second. What finds no room is counted."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self.client = client
        self.pending: deque[dict[str, Any]] = deque()
        self.n_lost = 0
        self._n_refused = 0
        self._away = False
        self._n_in_stream = 0

    @property
    def takes_prompts(self) -> bool:
        return len(self.pending) + self._n_in_stream < MAX_WAITING_PROMPTS

    def add(self, record: dict[str, Any]) -> None:
        if len(self.pending) >= MAX_PENDING:
            self.n_lost += 1
            return
        self.pending.append(record)

    async def flush(self) -> None:
        """Move what is pending into the stream. Raises RedisError; nothing is lost by that."""
        while self.pending:
            self._n_in_stream = int(await self.client.xlen(STREAM))
            room = MAX_STREAM - self._n_in_stream
            n = min(BATCH, len(self.pending), room if room > 0 else BATCH)
            if room > 0:
                pipeline = self.client.pipeline(transaction=False)
                for record in islice(self.pending, n):
                    pipeline.xadd(STREAM, {"r": json.dumps(record, separators=(",", ":"))})
                await pipeline.execute()
            else:  # the database has been away for very long
                self.n_lost += n
            for _ in range(n):
                self.pending.popleft()

    async def publish(self, stats: dict[str, Any]) -> None:
        stats |= {"records_lost_total": self.n_lost + self._n_refused, "records_pending": len(self.pending)}
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set(STATS_KEY, json.dumps(stats), ex=5)
        pipeline.get(REFUSED_KEY)
        self._n_refused = int((await pipeline.execute())[1] or 0)

    async def run(self, stats: Stats, told: Callable[[], dict[str, Any]]) -> None:
        """Each second: the rates for the dashboard and what is `told` beside them, then the records."""
        loop = asyncio.get_running_loop()
        tick = loop.time()
        while True:
            tick = max(tick + 1.0, loop.time())
            await asyncio.sleep(tick - loop.time())
            try:
                await self.publish({**stats.snapshot(loop.time()), **told()})
                await self.flush()
                if self._away:
                    log.info("Valkey is back; %s records waited", len(self.pending))
                self._away = False
            except (RedisError, OSError) as error:
                if not self._away:
                    log.warning("Valkey does not take records: %s; they wait here", error)
                self._away = True
            except Exception:  # this task must outlive whatever comes: nothing else empties what is pending
                log.exception("handing over records failed")
