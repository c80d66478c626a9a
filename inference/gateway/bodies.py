"""What a client sends: read whole within a limit, or passed on part by part."""

from collections.abc import AsyncIterator

from inference.gateway.asgi import Receive

MAX_BLOB_BYTES = 256 * 2**30  # model files are streamed through, never held


class TooLargeError(Exception):
    pass


class ClientGoneError(Exception):
    pass


async def read_body(receive: Receive, length: int, limit: int) -> bytes:
    """`length`: bytes as announced, 0 for unknown. Raises TooLargeError, ClientGoneError."""
    parts, size = [], 0
    while max(size, length) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
        if not message.get("more_body") and size <= limit:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise TooLargeError(
        f"request body larger than {limit} bytes (AICLEANER_GATEWAY_MAX_BODY_MB sets the limit)"
    )


class Upload:
    """A model file on its way to the engine, part by part. `problem`: why it stopped short; the HTTP client that reads the
    parts reports that as a broken connection only."""

    def __init__(self, receive: Receive, length: int) -> None:
        """`length`: bytes as announced, 0 for unknown."""
        self._receive, self.length = receive, length
        self.started = False
        self.problem: Exception | None = None
        if length > MAX_BLOB_BYTES:
            raise TooLargeError(f"blob larger than {MAX_BLOB_BYTES} bytes")

    async def parts(self) -> AsyncIterator[bytes]:
        self.started, size = True, 0
        while True:
            message = await self._receive()
            part = message.get("body", b"")
            size += len(part)
            if message["type"] == "http.disconnect":
                self.problem = ClientGoneError()
            elif size > MAX_BLOB_BYTES:
                self.problem = TooLargeError(f"blob larger than {MAX_BLOB_BYTES} bytes")
            if self.problem is not None:
                raise self.problem
            if part:
                yield part
            if not message.get("more_body"):
                return
