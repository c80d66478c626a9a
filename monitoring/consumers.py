"""Web sockets: authenticate, join, forward."""

import asyncio
import json
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from monitoring import news
from monitoring.live import hub

NOT_LOGGED_IN = 4401


class PageConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A socket of a page, for who is logged in; what the client says is ignored."""

    async def connect(self) -> None:
        await self.accept()  # also without a login: of a refused handshake a browser learns no reason
        if self.scope["user"].is_authenticated:
            await self.join()
        else:
            await self.close(NOT_LOGGED_IN)

    async def join(self) -> None:
        raise NotImplementedError

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        pass


class LiveConsumer(PageConsumer):
    """Sends each sample as it is taken."""

    async def join(self) -> None:
        hub.join(self, self.base_send)

    async def disconnect(self, code: int) -> None:
        hub.leave(self)


class NewsConsumer(PageConsumer):
    """Sends each piece of news, see monitoring/news.py."""

    async def join(self) -> None:
        await self.channel_layer.group_add(news.GROUP, self.channel_name)
        ago = await asyncio.to_thread(news.last_told_ago)
        await self.send(text_data=json.dumps({"type": "hello", "last_told_ago_s": ago}))

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(news.GROUP, self.channel_name)

    async def news(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(event["news"]))
