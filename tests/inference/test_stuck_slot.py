"""A real Ollama whose slot is not given back when a client leaves: the gateway frees it, and nobody waits for ever."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.memory import NEWS_STREAM
from tests.inference.serving import Server
from tests.inference.test_engine import open_stream
from tests.inference.test_transcripts import call
from tests.inference.upstream import Upstream, chunk, chunked_head, response
from tests.product import wait_for

MODEL = "m:latest"
PS = {
    "name": MODEL,
    "model": MODEL,
    "digest": "d",
    "size": 100,
    "size_vram": 0,
    "expires_at": "2318-01-01T00:00:00Z",
}


class StuckOllama:
    """Its only slot hangs from the first stream on, until the model is unloaded: what waits then fails, as a runner that is
    ended does."""

    def __init__(self) -> None:
        self.stuck, self.unloaded = threading.Event(), threading.Event()
        self.n_waiting = threading.Semaphore(0)
        self.upstream = Upstream(self.answer)
        self.upstream.models = json.dumps([PS]).encode()

    def answer(self, request: bytes, connection: socket.socket) -> None:
        if not request.startswith(b"POST /api/generate "):
            connection.sendall(response(b"{}"))
            return
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        if body.get("keep_alive") == 0 and "prompt" not in body:
            self.unloaded.set()
            connection.sendall(response(json.dumps({"model": MODEL, "done": True}).encode()))
        elif self.unloaded.is_set():
            done = {"model": MODEL, "response": "well", "done": True, "eval_count": 1, "prompt_eval_count": 1}
            connection.sendall(response(json.dumps(done).encode()))
        elif not self.stuck.is_set():
            self.stuck.set()
            connection.sendall(chunked_head() + chunk(b'{"model":"m","response":"a","done":false}\n'))
            connection.recv(1)  # until the gateway goes away with its client
        else:
            self.n_waiting.release()
            self.unloaded.wait(60)
            failed = b'{"error":"llama runner process has terminated"}'
            head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(failed)}\r\n"
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + failed)


@pytest.fixture
def ollama() -> Iterator[StuckOllama]:
    found = StuckOllama()
    with found.upstream:
        yield found


def test_a_slot_that_hangs_is_freed_and_who_waited_is_answered(
    ollama: StuckOllama, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    options = ("--valkey", own_valkey.url, "--engine", f"ollama={ollama.upstream.url}", "--slot-quiet", "1")
    with Server("inference.gateway", *options) as gateway:
        body = {"model": MODEL, "prompt": "x"}
        connection, answer = open_stream(gateway, body)
        answer.close()
        connection.close()
        wait_for(lambda: ollama.stuck.is_set() and ollama.upstream.left.acquire(blocking=False), "it left")
        asked = {**body, "stream": False}
        found = call(gateway.url, "POST", "/api/generate", {}, asked)
    assert ollama.unloaded.is_set()
    assert (found.status, json.loads(found.body)["response"]) == (200, "well")
    assert ollama.n_waiting.acquire(blocking=False)
    entries: Any = wait_for(lambda: own_store.xrange(NEWS_STREAM), "the news are told")
    news = [json.loads(fields[b"n"]) for _, fields in entries]
    (told,) = [each for each in news if each["what"] == "unload"]
    assert told["model"] == MODEL
    assert told["who"] == "automatic"
    assert (
        told["reason"]
        == "its slot was stuck: 1 request waited in vain after a client had left amid an answer"
    )
