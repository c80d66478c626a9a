"""The gateway on the wire: clients and engines that do what the protocol allows, and what it does not."""

import gzip
import http.client
import json
import os
import signal
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from tests.inference.serving import Server
from tests.inference.test_gateway import records
from tests.inference.test_transcripts import call
from tests.inference.upstream import Upstream, chunk, chunked_head, drop, response
from tests.product import free_ports, wait_for

LINE = b'{"model":"m","response":"Hi","done":false}\n'
LAST = b'{"model":"m","response":"","done":true,"done_reason":"stop","eval_count":1,"total_duration":5}\n'


@pytest.fixture
def store(valkey_url: str) -> Iterator[redis.Redis]:
    client = redis.from_url(valkey_url)
    client.delete("aicleaner:gateway:records", "aicleaner:gateway:stats", "aicleaner:gateway:refused")
    yield client
    client.delete("aicleaner:gateway:records", "aicleaner:gateway:stats")
    client.close()


def gateway(valkey_url: str, *engines: str, **options: str) -> Server:
    words = [word for engine in engines for word in ("--engine", f"ollama={engine}")]
    words += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return Server("inference.gateway", "--valkey", valkey_url, *words, ready="/api/version")


Answer = Callable[[bytes, socket.socket], None]
Wire = Callable[[Answer], AbstractContextManager[tuple[Upstream, Server]]]


@pytest.fixture(scope="module")
def wire(valkey_url: str) -> Iterator[Wire]:
    """One gateway before one engine, whose way of answering is each test's own."""
    with Upstream(plain) as upstream, gateway(valkey_url, upstream.url, max_body="1000000") as server:

        @contextmanager
        def answering(answer: Answer) -> Iterator[tuple[Upstream, Server]]:
            upstream.begin(answer)
            yield upstream, server

        yield answering


def plain(request: bytes, connection: socket.socket) -> None:
    connection.sendall(response(b'{"done": true}'))


def open_socket(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def exchange(server: Server, raw: bytes) -> bytes:
    """Everything that comes back until the gateway closes."""
    with open_socket(server) as client:
        client.sendall(raw)
        return b"".join(iter(lambda: client.recv(65536), b""))


def post(server: Server, body: dict[str, Any], path: str = "/api/generate", **headers: str) -> Any:
    return call(server.url, "POST", path, {"x-aicleaner-client": me(), **headers}, body)


def me() -> str:
    """Name of this test as a client: the gateway serves them all, and records of the last may come late."""
    return sha256(os.environ["PYTEST_CURRENT_TEST"].encode()).hexdigest()[:12]


def own_records(store: redis.Redis, n: int) -> list[Any]:
    def found() -> list[Any]:
        return [each for each in records(store, n) if each["client"] == me()]

    wait_for(lambda: len(found()) >= n, f"{n} records of this test are in the stream", 10)
    return found()


@pytest.mark.parametrize(
    "target", ["/api/tags?x=%2F&y=a+b", "/api/blobs/sha256%3Aab%20c/..%2F", "//api//x", "/a;b=c"]
)
def test_a_path_reaches_the_engine_byte_for_byte(wire: Wire, target: str) -> None:
    with wire(plain) as (upstream, server):
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        assert exchange(server, head.encode()).startswith(b"HTTP/1.1 200 ")
    assert upstream.requests[0].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


def test_head_has_the_length_and_no_body(wire: Wire) -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 17\r\n\r\n")

    with wire(answer) as (_, server):
        raw = exchange(server, b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-length: 17" in head.lower()
    assert body == b""


def test_a_chunked_body_arrives_whole_and_with_its_length(wire: Wire) -> None:
    with wire(plain) as (upstream, server):
        head = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        raw = exchange(server, head + chunk(b'{"model":') + chunk(b'"m"}') + chunk(b""))
    assert raw.startswith(b"HTTP/1.1 200 ")
    requests = [each.partition(b"\r\n\r\n") for each in upstream.requests]
    (head,) = [head for head, _, body in requests if body == b'{"model":"m"}']
    assert b"content-length: 13" in head.lower()


def test_a_client_that_waits_for_100_gets_it_and_one_with_too_much_does_not(wire: Wire) -> None:
    with wire(plain) as (upstream, server):
        for length, first in ((13, b"HTTP/1.1 100 Continue"), (5_000_000, b"HTTP/1.1 413 ")):
            with open_socket(server) as client:
                head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
                client.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
                assert client.recv(65536).startswith(first)
                if length == 13:
                    client.sendall(b'{"model":"m"}')
                    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert len(upstream.requests) == 1


def test_a_blob_streams_through_with_its_length(wire: Wire) -> None:
    with wire(plain) as (upstream, server):
        blob = os.urandom(300_000)
        assert call(server.url, "POST", "/api/blobs/sha256:ab", {}, blob).status == 200
        announced = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        announced.putrequest("POST", "/api/blobs/sha256:ab")
        announced.putheader("Content-Length", str(2**40))
        announced.endheaders()
        assert announced.getresponse().status == 413
        announced.close()
    head, _, body = upstream.requests[0].partition(b"\r\n\r\n")
    assert b"content-length: 300000" in head.lower()
    assert body == blob


def test_an_upload_that_breaks_off_breaks_off_at_the_engine_too(valkey_url: str) -> None:
    broke_off = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as engine:
        threading.Thread(target=accept_all, args=(engine, broke_off), daemon=True).start()
        with (
            gateway(valkey_url, f"http://127.0.0.1:{engine.getsockname()[1]}") as server,
            open_socket(server) as client,
        ):
            client.sendall(
                b"POST /api/blobs/sha256:ab HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000\r\n\r\n"
            )
            client.sendall(b"x" * 100_000)
            client.close()
            assert broke_off.wait(20)


def accept_all(server: socket.socket, broke_off: threading.Event) -> None:
    """Engine that tells when an upload ended before it was whole."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                raw = connection.recv(65536)
                if raw.startswith(b"GET"):
                    connection.sendall(response(b'{"version": "9.9"}', Connection="close"))
                    return
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            broke_off.set()

    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def test_a_head_without_end_is_refused(wire: Wire) -> None:
    with wire(plain) as (_, server):
        with open_socket(server) as client:
            client.settimeout(20)  # a gateway that goes on taking would leave us waiting
            try:
                client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                for _ in range(1000):
                    client.sendall(b"x-a: " + b"a" * 1000 + b"\r\n")
                answer = client.recv(65536)
            except (ConnectionResetError, BrokenPipeError):  # it closed with our head unread
                answer = b"HTTP/1.1 431 "
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert post(server, {"model": "m"}, **{"x-big": "b" * 20_000}).status == 200


def test_a_body_that_stops_coming_is_refused_in_the_end(valkey_url: str) -> None:
    with (
        Upstream(plain) as upstream,
        gateway(valkey_url, upstream.url, head="0.2", body_idle="0.3") as server,
    ):
        head = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
        assert exchange(server, head + b"{").startswith(b"HTTP/1.1 408 ")
    assert upstream.requests == []


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: a"])
def test_a_head_that_trickles_in_is_refused_in_the_end(valkey_url: str, begun: bytes) -> None:
    with Upstream(plain) as upstream, gateway(valkey_url, upstream.url, head="0.3") as server:
        assert exchange(server, begun).startswith(b"HTTP/1.1 408 ")
        again = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + begun  # the second head of a connection too
        answers = exchange(server, again)
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert (b"HTTP/1.1 408 " in answers) == bool(begun)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost", b"404"),
        (b"GET /api/tags HTTP/1.1\r\nHost: [::1", b"403"),
        (b"GET /api/tags HTTP/1.0", b"200"),
    ],
)
def test_an_odd_head_gets_an_answer(wire: Wire, head: bytes, status: bytes) -> None:
    with wire(plain) as (_, server):
        assert exchange(server, head + b"\r\nConnection: close\r\n\r\n").split(b" ")[1] == status


def test_a_websocket_is_answered_as_plain_http(wire: Wire) -> None:
    with wire(plain) as (upstream, server):
        head = (
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with open_socket(server) as client:
            client.sendall(head)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert b"upgrade" not in upstream.requests[0].lower()


def test_headers_of_the_client_s_connection_stay_with_it(wire: Wire) -> None:
    with wire(plain) as (upstream, server):
        head = (
            b"GET /api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close, X-Private\r\nX-Private: 1\r\n"
            b"Keep-Alive: timeout=5\r\nX-Other: 2\r\n\r\n"
        )
        exchange(server, head)
    sent = upstream.requests[0].lower()
    assert b"x-other: 2" in sent
    assert b"x-private" not in sent
    assert b"keep-alive" not in sent


@pytest.mark.parametrize("moment", ["before the head", "amid the answer"])
def test_a_client_that_leaves_is_gone_for_the_engine_too(wire: Wire, store: redis.Redis, moment: str) -> None:
    arrived = threading.Event()

    def answer(request: bytes, connection: socket.socket) -> None:
        if moment == "amid the answer":
            connection.sendall(chunked_head() + chunk(LINE))
        arrived.set()  # and not a byte more

    with wire(answer) as (upstream, server):
        with open_socket(server) as client:
            body = b'{"model":"m","prompt":"x"}'
            head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nX-AICleaner-Client: {me()}\r\n"
            client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert arrived.wait(20)
            if moment == "amid the answer":
                with client.makefile("rb") as lines:
                    assert next(line for line in lines if b"Hi" in line)
        assert upstream.left.acquire(timeout=20), "the engine still works for a client that has left"
        (record,) = own_records(store, 1)
        assert record["error"] == "client closed the connection"
        assert (record["ttft_ms"] is None) == (moment == "before the head")
        stats = wait_for(lambda: published(store, "requests_total"), "the request is counted")
        assert (stats["running"], stats["queued"]) == (0, 0)


def published(store: redis.Redis, at_least_one: str) -> Any:
    raw: Any = store.get("aicleaner:gateway:stats")
    stats = json.loads(raw) if raw else {}
    return stats if stats.get(at_least_one) else None


@pytest.mark.parametrize(
    ("kind", "piece", "path", "end"),
    [
        ("application/x-ndjson", LINE[:20], "/api/generate", b"\n"),
        ("application/x-ndjson", LINE, "/api/generate", b"\n"),
        ("text/event-stream", b'data: {"choices":[]}\n\n', "/v1/chat/completions", b"\n\n"),
    ],
)
def test_an_engine_that_breaks_off_leaves_an_error_line_that_can_be_read(
    wire: Wire, store: redis.Redis, kind: str, piece: bytes, path: str, end: bytes
) -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(chunked_head(kind) + chunk(piece))
        drop(connection)

    with wire(answer) as (_, server):
        found = post(server, {"model": "m", "stream": True}, path)
        last = found.body.removesuffix(end).rpartition(b"\n")[2].removeprefix(b"data: ")
        assert "error was encountered" in json.dumps(json.loads(last)["error"])
    (record,) = own_records(store, 1)
    assert "does not answer" in record["error"]
    assert record["output_tokens"] is None


def test_a_plain_answer_that_breaks_off_is_not_passed_for_a_whole_one(wire: Wire, store: redis.Redis) -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(response(b'{"done": true}' + b" " * 1000)[:-900])
        drop(connection)

    with wire(answer) as (_, server):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        body = b'{"model":"m","stream":false}'
        connection.request("POST", "/api/generate", body, {"x-aicleaner-client": me()})
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        connection.close()
    assert own_records(store, 1)[0]["error"]


def test_an_engine_that_is_silent_too_long_is_given_up(valkey_url: str, store: redis.Redis) -> None:
    asked = threading.Event()
    with (
        Upstream(lambda *_: asked.set()) as upstream,
        gateway(valkey_url, upstream.url, silent="0.5") as server,
    ):
        found = post(server, {"model": "m", "stream": False})
        assert found.status == 504
        assert "has been silent for 0.5 s" in json.loads(found.body)["error"]
        assert upstream.left.acquire(timeout=20)
    assert len(upstream.requests) == 1  # a generation that hangs is not started twice
    assert own_records(store, 1)[0]["status"] == 504


def test_connections_that_all_went_stale_cost_no_request(wire: Wire, store: redis.Redis) -> None:
    """An engine that was started anew: every kept connection is dropped at its next request."""
    together = threading.Barrier(8, timeout=20)
    seen: Counter[socket.socket] = Counter()

    def answer(request: bytes, connection: socket.socket) -> None:
        seen[connection] += 1
        if seen[connection] > 1:
            drop(connection)
            return
        if b"first" in request:
            together.wait()  # so that there are eight connections to keep
        connection.sendall(response(b'{"done": true}'))

    with wire(answer) as (upstream, server):
        for prompt in ("first", "second"):
            body = {"model": "m", "prompt": prompt, "stream": False}
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda each: post(server, each), [body] * 8))
            assert [each.status for each in answers] == [200] * 8, prompt
    assert len(upstream.requests) > 16  # some were sent twice
    assert all(each["error"] == "" for each in own_records(store, 16))


def test_a_fresh_connection_that_breaks_is_no_stale_one(valkey_url: str) -> None:
    """A gateway of its own: that of the other tests may have kept connections."""
    with (
        Upstream(lambda _, connection: drop(connection)) as upstream,
        gateway(valkey_url, upstream.url) as server,
    ):
        for n in (1, 2, 3):
            assert post(server, {"model": "m"}).status == 502
            assert len(upstream.requests) == n


def test_an_answer_in_gzip_reaches_who_asked_and_inference_asks_for_none(
    wire: Wire, store: redis.Redis
) -> None:
    packed = gzip.compress(LINE + LAST)

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(response(packed, "application/x-ndjson", Content_Encoding="gzip"))

    with wire(answer) as (upstream, server):
        for path, method in (("/api/generate", "POST"), ("/api/tags", "GET")):
            body = {"model": "m"} if method == "POST" else None
            found = call(
                server.url, method, path, {"Accept-Encoding": "gzip", "x-aicleaner-client": me()}, body
            )
            assert gzip.decompress(found.body) == LINE + LAST
    asked = [b"accept-encoding: gzip" in each.lower() for each in upstream.requests]
    assert asked == [False, True]
    (record,) = own_records(store, 1)
    assert (record["error"], record["output_tokens"], record["response_bytes"]) == ("", None, len(packed))


def test_a_large_answer_passes_and_is_not_held(wire: Wire, store: redis.Redis) -> None:
    numbers = b"0.123456789," * 100_000
    body = b'{"model":"m","embeddings":[[' + numbers * 60 + b'1]],"total_duration":5,"prompt_eval_count":3}'

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(response(body))

    with wire(answer) as (_, server):
        process = psutil.Process(server.process.pid)
        assert post(server, {"model": "m"}, "/api/embed").status == 200
        before = process.memory_info().rss
        sizes = [
            process.memory_info().rss
            for _ in range(3)
            if len(post(server, {"model": "m"}, "/api/embed").body)
        ]
        assert max(sizes) - before < len(body) // 2
    assert [each["prompt_tokens"] for each in own_records(store, 4)] == [3] * 4


def test_a_gateway_that_is_its_own_engine_says_so_and_does_not_spin(valkey_url: str) -> None:
    (port,) = free_ports(1)
    engine = f"ollama=http://localhost:{port}"
    with Server("inference.gateway", "--valkey", valkey_url, "--engine", engine, port=port) as server:
        found = call(server.url, "GET", "/api/version", {}, None)
        assert found.status == 508
        assert b"its own engine" in found.body


def test_two_gateways_in_a_row_serve_and_two_in_a_ring_refuse(valkey_url: str) -> None:
    ports = free_ports(2)
    with (
        Upstream(plain) as upstream,
        gateway(valkey_url, upstream.url) as inner,
        gateway(valkey_url, inner.url) as outer,
    ):
        assert post(outer, {"model": "m"}).status == 200
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    command = ("inference.gateway", "--valkey", valkey_url, "--engine")
    with (
        Server(*command, f"ollama={urls[1]}", port=ports[0]) as one,
        Server(*command, f"ollama={urls[0]}", port=ports[1]),
    ):
        assert post(one, {"model": "m"}).status == 508


def test_records_wait_and_requests_pass_while_valkey_hangs() -> None:
    folder = Path(tempfile.mkdtemp(prefix="aic-v-"))
    with (
        ValkeyServer(folder / "v.sock") as valkey,
        Upstream(plain) as upstream,
        gateway(valkey.url, upstream.url) as server,
    ):
        process = valkey.process
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert [post(server, {"model": "m", "stream": False}).status for _ in range(30)] == [200] * 30
        finally:
            os.kill(process.pid, signal.SIGCONT)
        client = redis.from_url(valkey.url)
        assert len(records(client, 30)) == 30
        client.close()
