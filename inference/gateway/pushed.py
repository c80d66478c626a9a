"""State that the console pushes to the gateway: a key that is read at the start, and a channel that tells of each change.

inference/pushing.py is the other end."""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

CONFIRM_KEPT_S = 60
READ_AGAIN_S = 10.0  # a channel that died silently costs this long at most
log = logging.getLogger("inference.gateway")


@dataclass(frozen=True)
class Way:
    """Names in Valkey of one kind of state; `confirmed` and a serial is a list that each gateway adds its word to."""

    name: str

    @property
    def key(self) -> str:
        return f"aicleaner:{self.name}"

    @property
    def channel(self) -> str:
        return f"aicleaner:{self.name}:changed"

    @property
    def confirmed(self) -> str:
        return f"aicleaner:{self.name}:confirmed:"


PROFILES, ALIASES, ZONES, ENGINES = Way("profiles"), Way("aliases"), Way("zones"), Way("engines")
API_KEYS = Way("api-keys")
# Environment variable with the keys that open sealed secrets of engines (Fernet's, separated by spaces).
ENGINE_KEYS = "AICLEANER_ENGINE_KEYS"
CACHE_ORDERS = Way("cache-orders")  # its key stays empty: an order is not for whoever starts later


class Pushed:
    """Subclasses say in `take` what a state means; it is put to use whole or not at all."""

    def __init__(self, valkey_url: str, way: Way) -> None:
        self.client = redis.asyncio.from_url(valkey_url, socket_connect_timeout=5)
        self.way = way
        self._away = False

    def take(self, state: dict[str, Any]) -> str | None:
        """Returns a word for the person who waits; None: the usual one. Raises ValueError, TypeError, KeyError or
        AttributeError for what is none."""
        raise NotImplementedError

    async def run(self) -> None:
        """Follow the changes for as long as the gateway runs; while Valkey is away, the last known state stays."""
        while True:
            try:
                async with self.client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self.way.channel)
                    await self.read_key()
                    while True:
                        message = await pubsub.get_message(timeout=READ_AGAIN_S)
                        if message is None:
                            await self.read_key()
                        else:
                            await self._changed(message["data"])
            except (RedisError, OSError) as error:
                if not self._away:
                    log.warning("%s: Valkey is away (%s); the last ones stay in use", self.way.name, error)
                self._away = True
            await asyncio.sleep(0.5)

    async def read_key(self) -> None:
        """Raises RedisError."""
        raw = await self.client.get(self.way.key)
        self._away = False
        if raw is not None:
            try:
                self.take(json.loads(raw))
            except (ValueError, TypeError, KeyError, AttributeError):
                log.exception("%s holds no %s; what was in use stays", self.way.key, self.way.name)

    async def _changed(self, raw: bytes) -> None:
        """A change and its confirmation, which the person who made it waits for."""
        serial, word = "", "ok"
        try:
            state = json.loads(raw)
            serial = str(state["serial"])
            word = self.take(state) or word
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.exception("%s told no %s; what was in use stays", self.way.channel, self.way.name)
            word = f"the gateway can't read the {self.way.name}: {error!r}"
        pipeline = self.client.pipeline(transaction=False)
        pipeline.lpush(self.way.confirmed + serial, word)
        pipeline.expire(self.way.confirmed + serial, CONFIRM_KEPT_S)
        await pipeline.execute()
