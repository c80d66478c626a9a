"""A small server with the shape of Ollama 0.1.32: no /api/ps, no /api/embed, no details of a model but its file, no cached
counts, no logprobs. An unknown path is plain text there, as in every version of it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.inference.mortal import MortalServer, serving

WORDS = ("Wipe ", "the ", "table.")
NOW = "2024-04-20T10:00:00.123456789Z"


class OldOllama(MortalServer):
    """`models`: their names. `status`: of each answer, 500 for a server in trouble. `silent`: nothing is said until `go_on`."""

    def __init__(self, *models: str, port: int = 0) -> None:
        super().__init__(_Handler, port)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.models = list(models)
        self.status = 200
        self.version = "0.1.32"
        self.silent = False
        self.go_on, self.asked = threading.Event(), threading.Event()
        self.requests: list[tuple[str, dict[str, Any]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: OldOllama
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/api/version":
            self._json({"version": self.server.version})
        elif self.path == "/api/tags":
            tags = [
                {"name": name, "modified_at": NOW, "size": 4096, "digest": ""} for name in self.server.models
            ]
            self._json({"models": tags or None})
        else:
            self._unknown()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        self.server.requests.append((self.path, body))
        self.server.asked.set()
        if self.server.silent:
            self.server.go_on.wait(60)
        if self.path == "/api/show":
            self._json({"license": "", "modelfile": "FROM /m", "parameters": "", "template": "{{ .Prompt }}"})
        elif self.path not in {"/api/generate", "/api/chat", "/api/embeddings"}:
            self._unknown()
        elif self.server.status != 200:
            self._json({"error": "llama runner process has terminated: signal: killed"}, self.server.status)
        elif self.path == "/api/embeddings":
            self._json({"embedding": [0.5, -0.5]})
        elif body["model"].removesuffix(":latest") not in {
            each.removesuffix(":latest") for each in self.server.models
        }:
            self._json({"error": f"model '{body['model']}' not found, try pulling it first"}, 404)
        else:
            self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        chat = self.path == "/api/chat"

        def piece(text: str, **more: Any) -> dict[str, Any]:
            said = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
            return {"model": body["model"], "created_at": NOW, **said, "done": False, **more}

        end = {
            "done": True,
            "total_duration": 5_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_duration": 1_000_000,
        }
        end |= {"prompt_eval_count": 9, "eval_count": 3, "eval_duration": 2_000_000}
        if body.get("stream", True):
            lines = [*(piece(word) for word in WORDS), piece("", **end)]
            self._send(
                200, b"".join(json.dumps(each).encode() + b"\n" for each in lines), "application/x-ndjson"
            )
        else:
            self._json(piece("".join(WORDS), **end))

    def _unknown(self) -> None:
        self._send(404, b"404 page not found", "text/plain")

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json; charset=utf-8")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def old_ollama(*models: str, port: int = 0) -> Iterator[OldOllama]:
    server = OldOllama(*models, port=port)
    with serving(server):
        yield server
        server.go_on.set()
