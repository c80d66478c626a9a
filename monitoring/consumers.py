"""Web sockets: authenticate, join, forward."""

from channels.generic.websocket import AsyncWebsocketConsumer

from monitoring.live import hub

NOT_LOGGED_IN = 4401


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends each sample as it is taken; what the client says is ignored."""

    async def connect(self) -> None:
        if not self.scope["user"].is_authenticated:
            await self.close(NOT_LOGGED_IN)
            return
        await self.accept()
        hub.join(self, self._deliver)

    async def disconnect(self, code: int) -> None:
        hub.leave(self)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        pass

    async def _deliver(self, text: str) -> None:
        await self.send(text_data=text)
