"""Equal requests at a time: the engine is asked once, for streams too, and whoever leaves takes nobody along."""

import http.client
import json
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.records import STREAM
from tests.inference.gateways import wait_until_told
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.inference.upstream import Upstream, chunk, chunked_head, response
from tests.product import wait_for

FIRST = b'{"model":"m","response":"Hi","done":false}\n'
LAST = b'{"model":"m","response":"","done":true,"done_reason":"stop","eval_count":2,"total_duration":5}\n'
MODELS = b'[{"name": "m:latest", "digest": "d", "size": 1}]'
ASKED: dict[str, Any] = {"model": "m", "prompt": "together", "options": {"temperature": 0}}
N = 4


class Slow:
    """An engine that begins a stream and ends it when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, request: bytes, connection: socket.socket) -> None:
        if b"together" not in request:
            connection.sendall(response(b'{"done": true}'))
            return
        connection.sendall(chunked_head() + chunk(FIRST))
        while not self.go.wait(0.05):
            if select.select([connection], [], [], 0)[0] and not connection.recv(1, socket.MSG_PEEK):
                return  # the gateway hung up
        connection.sendall(chunk(LAST) + b"0\r\n\r\n")


class Scene:
    """The first client, which has read the beginning of its answer, and others who wait for the same one."""

    def __init__(self, server: Server, upstream: Upstream, pool: ThreadPoolExecutor) -> None:
        self.server, self.upstream, self.pool = server, upstream, pool
        self.first = self.ask()
        self.begun = self.first.getresponse()
        assert self.begun.headers["x-aicleaner-cache"] == "miss"
        assert self.begun.readline() == FIRST

    def ask(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request("POST", "/api/generate", json.dumps(ASKED))
        return connection

    def answers(self, n: int) -> list["Future[Answer]"]:
        def ask() -> Answer:
            return call(self.server.url, "POST", "/api/generate", {}, ASKED)

        return [self.pool.submit(ask) for _ in range(n)]

    def leave(self, *connections: http.client.HTTPConnection) -> None:
        """And let the gateway hear of it: a whole request comes after."""
        for each in connections:
            each.sock.shutdown(socket.SHUT_RDWR)
            each.close()
        call(self.server.url, "POST", "/api/generate", {}, {"model": "m", "prompt": "else", "stream": False})

    @property
    def n_asked(self) -> int:
        return sum(b"together" in each for each in self.upstream.requests)


@pytest.fixture
def engine_that_waits(own_valkey: ValkeyServer) -> Iterator[tuple[Slow, Scene]]:
    slow = Slow()
    with Upstream(slow) as upstream, ThreadPoolExecutor(2 * N) as pool:
        upstream.models = MODELS
        arguments = ("--valkey", own_valkey.url, "--engine", f"ollama={upstream.url}")
        with Server("inference.gateway", *arguments, ready="/api/version") as server:
            known = {"model": "m", "prompt": "else", "stream": False, "options": {"temperature": 0}}
            wait_for(
                lambda: (
                    call(server.url, "POST", "/api/generate", {}, known).headers["x-aicleaner-cache"]
                    != "bypass"
                ),
                "the models are known",
            )
            scene = Scene(server, upstream, pool)
            try:
                yield slow, scene
            finally:
                slow.go.set()
                scene.begun.close()
                scene.first.close()


def recorded_streams(store: redis.Redis, n: int) -> list[tuple[str, str]]:
    """Cache and error of each, once there are `n`."""
    entries: Any = store.xrange(STREAM)
    found = [json.loads(fields[b"r"]) for _, fields in entries]
    streams = sorted((each["cache"], each["error"]) for each in found if each["stream"])
    return streams if len(streams) == n else []


def test_equal_streams_at_a_time_are_one_request_of_the_engine(
    engine_that_waits: tuple[Slow, Scene], own_store: redis.Redis
) -> None:
    slow, scene = engine_that_waits
    others = scene.answers(N)
    wait_until_told(own_store, "queued", N)
    slow.go.set()
    assert [(each.result().headers["x-aicleaner-cache"], each.result().body) for each in others] == [
        ("hit", FIRST + LAST)
    ] * N
    assert scene.n_asked == 1


def test_the_first_one_leaves_amid_the_stream_and_the_others_get_their_answer(
    engine_that_waits: tuple[Slow, Scene], own_store: redis.Redis
) -> None:
    slow, scene = engine_that_waits
    others = scene.answers(N)
    wait_until_told(own_store, "queued", N)
    scene.leave(scene.first)
    assert not any(each.done() for each in others)
    slow.go.set()
    assert [each.result().body for each in others] == [FIRST + LAST] * N
    assert scene.n_asked == 1
    streams = wait_for(lambda: recorded_streams(own_store, N + 1), "all are recorded")
    assert streams == [("hit", "")] * N + [("miss", "client closed the connection")]


def test_when_the_last_one_who_waits_leaves_too_the_engine_stops(
    engine_that_waits: tuple[Slow, Scene], own_store: redis.Redis
) -> None:
    _, scene = engine_that_waits
    waiting = [scene.ask() for _ in range(2)]
    wait_until_told(own_store, "queued", 2)
    scene.leave(scene.first)
    scene.leave(waiting[0])
    assert not scene.upstream.left.acquire(blocking=False)
    scene.leave(waiting[1])
    assert scene.upstream.left.acquire(timeout=20)
    assert scene.n_asked == 1
