"""A small server that speaks OpenAI's API as clouds do: models, chat completions whole and streamed, embeddings, errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.inference.mortal import MortalServer, serving

KEY = "sk-test-0123456789abcdef"
WORDS = ("Mop ", "the ", "floor.")
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 500,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 0},
}


class CloudServer(MortalServer):
    """`message`: the whole answer's, `events`: those of a stream, `refusal`: status and body of every answer instead."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.models = ["gpt-4o-mini", "text-embedding-3-small"]
        self.message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
        self.events: list[Any] = [
            *({"choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": USAGE},
            "[DONE]",
        ]
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []  # path, body, headers
        self.over = False


class _Handler(BaseHTTPRequestHandler):
    server: CloudServer
    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        """A connection that the gateway kept must not outlive its server: the next one may get the same port."""
        if self.server.over:
            self.close_connection = True
            return False
        return super().parse_request()

    def do_GET(self) -> None:
        if self._may_ask():
            self._json(
                {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
            )

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, body, headers))
        if not self._may_ask():
            return
        if self.server.refusal is not None:
            self._json(self.server.refusal[1], self.server.refusal[0])
        elif self.path == "/v1/embeddings":
            data = [{"index": 0, "embedding": [0.25, 0.5]}]
            self._json({"data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}})
        elif body.get("stream"):
            told = (each if isinstance(each, str) else json.dumps(each) for each in self.server.events)
            self._send(200, "".join(f"data: {each}\n\n" for each in told).encode(), "text/event-stream")
        else:
            choice = {"index": 0, "message": self.server.message, "finish_reason": "stop"}
            self._json({"id": "c1", "model": body["model"], "choices": [choice], "usage": USAGE})

    def _may_ask(self) -> bool:
        given = self.headers.get("Authorization", "")
        if given == f"Bearer {KEY}":
            return True
        # Some quote the key that they refuse.
        error = {"message": f"Incorrect API key provided: {given[7:]}", "code": "invalid_api_key"}
        self._json({"error": error}, 401)
        return False

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def cloud_server() -> Iterator[CloudServer]:
    server = CloudServer()
    with serving(server):
        try:
            yield server
        finally:
            server.over = True
