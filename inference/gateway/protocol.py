"""uvicorn's HTTP protocol with bounds on how long a client may take to say what it wants."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 2**10


class BoundedProtocol(HttpToolsProtocol):
    """The parser below takes a head of any length for any time, and waits for a body for ever: all three are bounded here.
    A request that comes whole in one piece, as most do, costs no timer."""

    head_s = 20.0  # from the connection, or the first byte of a head, to its last
    body_idle_s = 30.0  # between two parts of a body
    _in_head = True
    _unfinished = True
    _head_bytes = 0
    _last_part = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.head_s, self._time_is_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                431, "Request Header Fields Too Large", f"the head is longer than {MAX_HEAD_BYTES} bytes"
            )
        elif not self._unfinished:
            self._cancel()
        else:
            self._last_part = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_later(self.head_s, self._time_is_up)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._unfinished = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._unfinished = False
        super().on_message_complete()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        if self._in_head:
            self._refuse(408, "Request Timeout", f"no whole head within {self.head_s:g} s")
        # While reading is paused it is the engine that is slow, not the client.
        elif self.flow.read_paused or self.loop.time() - self._last_part < self.body_idle_s:
            self._timer = self.loop.call_later(self.body_idle_s, self._time_is_up)
        else:
            self._refuse(408, "Request Timeout", f"no part of the body came for {self.body_idle_s:g} s")

    def _refuse(self, status: int, phrase: str, text: str) -> None:
        self._cancel()
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            head = (
                f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
            )
            self.transport.write(f"{head}Connection: close\r\n\r\n{text}".encode())
        self.transport.close()
