"""uvicorn's HTTP protocol with bounds on what a client may send before its request is understood."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 2**10


class BoundedProtocol(HttpToolsProtocol):
    """The parser below takes a head of any length for any time: both are bounded here, before a request costs anything."""

    head_s = 20.0  # from the connection, or the first byte of a head, to its last
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_ends()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        # What is parsed by now belonged to the head as a whole or in part: a part longer than a head is none.
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                431, "Request Header Fields Too Large", f"the head is longer than {MAX_HEAD_BYTES} bytes"
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._head_begins()

    def on_headers_complete(self) -> None:
        self._head_ends()
        super().on_headers_complete()

    def _head_begins(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_s, self._too_slow)

    def _head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._refuse(408, "Request Timeout", f"no whole head within {self.head_s:g} s")

    def _refuse(self, status: int, phrase: str, text: str) -> None:
        self._head_ends()
        if self.transport.is_closing():
            return
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n{text}".encode())
        self.transport.close()
