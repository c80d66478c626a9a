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
from inference.gateway.pushed import ENGINE_KEYS
from safeguards.sealing import engine_secrets
from tests.inference import gateways
from tests.inference.cloud_server import KEY, cloud_server
from tests.inference.serving import Server
from tests.inference.test_engine import open_stream
from tests.inference.test_transcripts import Answer, call
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


@pytest.fixture
def stuck_gateway(
    ollama: StuckOllama, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Before an Ollama whose client just left amid an answer."""
    monkeypatch.setenv(ENGINE_KEYS, " ".join(engine_secrets.keys()))
    options = ("--valkey", own_valkey.url, "--engine", f"ollama={ollama.upstream.url}", "--slot-quiet", "1")
    with Server("inference.gateway", *options) as gateway:
        connection, answer = open_stream(gateway, {"model": MODEL, "prompt": "x"})
        answer.close()
        connection.close()
        wait_for(lambda: ollama.stuck.is_set() and ollama.upstream.left.acquire(blocking=False), "it left")
        yield gateway


def generate(gateway: Server) -> Answer:
    return call(gateway.url, "POST", "/api/generate", {}, {"model": MODEL, "prompt": "x", "stream": False})


def test_a_slot_that_hangs_is_freed_and_who_waited_is_answered(
    ollama: StuckOllama, stuck_gateway: Server, own_store: redis.Redis
) -> None:
    found = generate(stuck_gateway)
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


def test_a_slot_is_freed_although_a_cloud_answers_for_it(
    ollama: StuckOllama, stuck_gateway: Server, own_store: redis.Redis
) -> None:
    """No request waits as long as it takes to find the slot stuck."""
    with cloud_server() as cloud:
        sealed = engine_secrets.seal({"key": KEY})
        sky = {"kind": "openai", "name": "sky", "url": cloud.url, "priority": 50, "sealed": sealed}
        assert gateways.hand_over_engines(own_store, sky) == "ok"
        assert gateways.hand_over_fallback(own_store, MODEL, "sky", "gpt-4o-mini", first_byte_s=0.7) == "ok"
        routes = []
        for _ in range(60):
            routes.append(generate(stuck_gateway).headers["x-aicleaner-route"])
            if ollama.unloaded.is_set():
                break
        assert ollama.unloaded.is_set()
        assert set(routes[:-1]) == {"fallback: no answer in time"}
        wait_for(lambda: generate(stuck_gateway).headers["x-aicleaner-route"] == "local", "it answers again")
