"""One subscriber per web process: samples come in once and go to every socket of this process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

CHANNEL = "aicleaner:live"
RETRY_S = 1.0
log = logging.getLogger(__name__)
Deliver = Callable[[dict[str, str]], Awaitable[None]]  # takes an ASGI message


class Hub:
    """Sockets join and leave; the subscription lives while there is at least one."""

    def __init__(self) -> None:
        self._sockets: dict[object, Deliver] = {}
        self._task: asyncio.Task[None] | None = None

    def join(self, socket: object, deliver: Deliver) -> None:
        self._sockets[socket] = deliver
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def leave(self, socket: object) -> None:
        self._sockets.pop(socket, None)
        if not self._sockets and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("live samples: Valkey is away (%s); trying again", error)
                await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        client = redis.asyncio.from_url(settings.VALKEY_URL)
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(CHANNEL)
                async for message in subscription.listen():
                    if message["type"] == "message":
                        await self._fan_out(message["data"].decode())
        finally:
            await client.aclose()

    async def _fan_out(self, text: str) -> None:
        message = {"type": "websocket.send", "text": text}
        for socket, deliver in list(self._sockets.items()):
            try:
                await deliver(message)
            except Exception:  # one broken socket must not cost the others their sample
                log.exception("a live socket failed and is left out")
                self._sockets.pop(socket, None)


hub = Hub()
