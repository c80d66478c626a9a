"""A small server in the place of Ollama: it lists what a test gives it, and pulls by the test's script."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GIB = 2**30
LAYERS: tuple[dict[str, Any], ...] = (
    {"status": "pulling manifest"},
    {"status": "pulling aaaa", "digest": "sha256:aaaa", "total": 4 * GIB},
    {"status": "pulling aaaa", "digest": "sha256:aaaa", "total": 4 * GIB, "completed": GIB},
    {"status": "pulling aaaa", "digest": "sha256:aaaa", "total": 4 * GIB, "completed": 4 * GIB},
    {"status": "pulling bbbb", "digest": "sha256:bbbb", "total": 1000, "completed": 1000},
)
END: tuple[dict[str, Any], ...] = (
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
)


class StandIn(ThreadingHTTPServer):
    """`script`: what a pull says, line by line; None in it waits for `go_on`. `left`: the puller closed the connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tags: list[dict[str, Any]] = []
        self.loaded: list[dict[str, Any]] = []
        self.raw: bytes | None = None  # the answer to everything, whatever it is
        self.script: tuple[dict[str, Any] | None, ...] = (*LAYERS, *END)
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.go_on, self.waits, self.left = threading.Event(), threading.Event(), threading.Event()
        self.pulled: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        known = {"/api/tags": self.server.tags, "/api/ps": self.server.loaded}
        if self.path == "/api/version":
            self._json({"version": "0.5.0"})
        else:
            self._json({"models": known.get(self.path, [])})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/api/pull":
            self._json({"error": f"model '{body.get('model')}' not found"}, 404)
            return
        self.server.pulled.append(body["model"])
        if self.server.refusal is not None:
            self._json(self.server.refusal[1], self.server.refusal[0])
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        try:
            for line in self.server.script:
                if line is None:
                    self.server.waits.set()
                    while not self.server.go_on.wait(0.05):
                        self.wfile.write(
                            json.dumps(LAYERS[2]).encode() + b"\n"
                        )  # as Ollama does, 16 times a second
                else:
                    self.wfile.write(json.dumps(line).encode() + b"\n")
        except OSError:
            self.server.left.set()

    def _json(self, value: Any, status: int = 200) -> None:
        data = self.server.raw if self.server.raw is not None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
