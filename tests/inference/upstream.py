"""Engines that misbehave: a raw HTTP server of which a test writes each byte."""

import socket
import threading
from collections.abc import Callable


class Upstream:
    """Answers the gateway's own questions by itself, and keeps no connection for them, as one that was kept would serve some
    request of a test. Each other request is the test's: `answer(request, connection)`, after which the connection waits for
    the next one. `left` counts those that the other side closed."""

    def __init__(self, answer: Callable[[bytes, socket.socket], None]) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.begin(answer)

    def begin(self, answer: Callable[[bytes, socket.socket], None]) -> None:
        """Another way of answering from here on; what was counted before is forgotten."""
        self._answer = answer
        self.models = b"[]"  # what the gateway hears of them
        self.requests: list[bytes] = []
        self.left = threading.Semaphore(0)

    def __enter__(self) -> "Upstream":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        asked = False
        with connection:
            try:
                while request := read_request(connection):
                    if request.startswith(b"GET /api/version "):
                        connection.sendall(response(b'{"version": "9.9"}', Connection="close"))
                        return
                    own = b"x-aicleaner-gateway" not in request  # what is passed on is marked
                    if own and request.startswith((b"GET /api/tags ", b"GET /api/ps ")):
                        body = b'{"models": ' + self.models + b"}"
                        connection.sendall(response(body, Connection="close"))
                        return
                    asked = True
                    self.requests.append(request)
                    self._answer(request, connection)
            except OSError:
                pass
        if asked:
            self.left.release()


def read_request(connection: socket.socket) -> bytes:
    """Head and body of one request; empty when the other side closed."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        part = connection.recv(65536)
        if not part:
            return b""
        raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    chunked = b"transfer-encoding: chunked" in lines
    while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
        part = connection.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body


def response(body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def chunked_head(kind: str = "application/x-ndjson") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def drop(connection: socket.socket) -> None:
    """Close so that the other side sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
