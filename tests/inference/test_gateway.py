"""The gateway before the real engine, with the real Valkey."""

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from inference import services
from inference.gateway.meter import Meter
from inference.gateway.stats import Stats, quantile
from inference.models import InferenceRequest
from tests.inference.serving import Server
from tests.inference.test_transcripts import call
from tests.product import wait_for

ROOM = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor."
STREAM = "aicleaner:gateway:records"


@pytest.fixture
def store(valkey_url: str) -> Iterator[redis.Redis]:
    client = redis.from_url(valkey_url)
    client.delete(STREAM, "aicleaner:gateway:stats")
    yield client
    client.delete(STREAM, "aicleaner:gateway:stats")
    client.close()


@pytest.fixture
def gateway(engine: Server, valkey_url: str, store: redis.Redis) -> Iterator[Server]:
    with Server(
        "inference.gateway",
        *(
            "--valkey",
            valkey_url,
            "--engine",
            "ollama=http://127.0.0.1:1",
            "--engine",
            f"embedded={engine.url}",
        ),
        *("--max-body", "100000"),
    ) as server:
        yield server


def records(store: redis.Redis, n: int) -> list[dict[str, Any]]:
    wait_for(lambda: int(store.xlen(STREAM)) >= n, f"{n} records are in the stream", 10)
    found: Any = store.xrange(STREAM)
    return [json.loads(fields[b"r"]) for _, fields in found]


def generate(server: Server, **fields: Any) -> Any:
    return call(
        server.url, "POST", "/api/generate", {}, {"model": "aicleaner-sample", "prompt": ROOM, **fields}
    )


def test_an_answer_is_the_engine_s_own_and_leaves_a_record(gateway: Server, store: redis.Redis) -> None:
    answer = generate(gateway, stream=False)
    assert answer.status == 200
    assert "the dirty dishes in the sink" in json.loads(answer.body)["response"]
    (record,) = records(store, 1)
    assert record["model"] == "aicleaner-sample"
    assert record["engine_kind"] == "embedded"
    assert record["output_tokens"] == json.loads(answer.body)["eval_count"]
    assert record["error"] == ""
    assert ROOM not in json.dumps(record)


def test_a_stream_comes_piece_by_piece_with_our_headers(gateway: Server, store: redis.Redis) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.request("POST", "/api/generate", json.dumps({"model": "aicleaner-sample", "prompt": ROOM}))
    response = connection.getresponse()
    names = ("x-aicleaner-request-id", "x-aicleaner-cache", "x-aicleaner-engine", "x-aicleaner-profile")
    found = [response.headers[name] for name in names]
    assert found[1:] == ["bypass", "embedded", "none"]
    lines = [json.loads(line) for line in response.read().split(b"\n") if line]
    connection.close()
    assert lines[-1]["done"]
    (record,) = records(store, 1)
    assert record["request_id"] == found[0]
    assert record["ttft_ms"] < record["total_ms"]
    assert record["output_tokens"] == lines[-1]["eval_count"]


def test_an_openai_stream_and_errors_are_recorded_too(gateway: Server, store: redis.Redis) -> None:
    body = {"model": "tiny-script", "messages": [{"role": "user", "content": "x"}], "stream": True}
    answer = call(gateway.url, "POST", "/v1/chat/completions", {"User-Agent": "ha-voice/2 x"}, body)
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert call(gateway.url, "POST", "/api/chat", {}, {"model": "nope", "messages": []}).status == 404
    assert call(gateway.url, "POST", "/api/chat", {}, b"{").status == 400
    streamed, unknown, broken = records(store, 3)
    assert (streamed["client"], streamed["error"], streamed["api"]) == ("ha-voice/2", "", "openai")
    assert (unknown["status"], unknown["error"]) == (404, "model 'nope' not found")
    assert (broken["status"], broken["error"]) == (400, "unexpected EOF")


def test_a_stream_without_its_end_counts_as_an_error(gateway: Server, store: redis.Redis) -> None:
    generate(gateway, model="tiny-repeat", options={"repeat_penalty": 1.0, "num_predict": 200})
    (record,) = records(store, 1)
    assert record["error"] == "the stream ended before it was done"


def test_rates_are_published_each_second(gateway: Server, store: redis.Redis) -> None:
    generate(gateway)
    found = wait_for(lambda: store.get("aicleaner:gateway:stats"), "the rates are there", 10)
    stats = json.loads(found)  # type: ignore[arg-type]
    assert stats["engine"]["kind"] == "embedded"
    assert stats["engine"]["up"]
    assert stats["records_lost_total"] == 0


def test_a_body_over_the_limit_is_refused_by_size(gateway: Server, store: redis.Redis) -> None:
    answer = generate(gateway, system="x" * 200_000)
    assert answer.status == 413
    assert b"AICLEANER_GATEWAY_MAX_BODY_MB" in answer.body
    chunked = call(gateway.url, "POST", "/api/generate", {"Transfer-Encoding": "chunked"}, b"")
    assert chunked.status in {400, 413}


def test_a_foreign_host_is_refused(gateway: Server) -> None:
    assert call(gateway.url, "GET", "/api/tags", {"Host": "evil.example"}, None).status == 403
    assert call(gateway.url, "GET", "/api/tags", {"Origin": "https://evil.example"}, None).status == 403


def test_without_an_engine_the_error_has_the_api_s_shape(valkey_url: str, store: redis.Redis) -> None:
    with Server(
        "inference.gateway", "--valkey", valkey_url, "--engine", "ollama=http://127.0.0.1:1"
    ) as gateway:
        native = generate(gateway)
        assert native.status == 502
        assert "does not answer" in json.loads(native.body)["error"]
        openai = call(gateway.url, "POST", "/v1/chat/completions", {}, {"model": "x"})
        assert openai.status == 502
        assert set(json.loads(openai.body)["error"]) == {"message", "type", "param", "code"}
    assert [each["status"] for each in records(store, 2)] == [502, 502]


def test_a_client_that_leaves_takes_its_request_along(gateway: Server, store: redis.Redis) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    body = {
        "model": "tiny-script",
        "prompt": "x",
        "raw": True,
        "options": {"num_predict": -1, "stop": ["never"]},
    }
    connection.request("POST", "/api/generate", json.dumps({**body, "model": "tiny-repeat", "stream": False}))
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    (record,) = records(store, 1)
    assert record["error"] in {"client closed the connection", "the stream ended before it was done", ""}


class Breaking(threading.Thread):
    """An upstream that closes each kept connection after its first answer, without saying so."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.n_generate = 0

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            raw = connection.recv(65536)
            self.n_generate += b"/api/generate" in raw
            body = b'{"version": "1"}' if b"/api/version" in raw else b'{"done": true}'
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.recv(65536)  # the next request on this connection is dropped


def test_a_stale_connection_is_tried_once_more(valkey_url: str, store: redis.Redis) -> None:
    upstream = Breaking()
    upstream.start()
    with Server("inference.gateway", "--valkey", valkey_url, "--engine", f"ollama={upstream.url}") as gateway:
        assert [generate(gateway, stream=False).status for _ in range(4)] == [200] * 4
    upstream.server.close()


def test_an_engine_killed_amid_its_answer_ends_the_stream_with_an_error(
    valkey_url: str, store: redis.Redis, tmp_path: Any
) -> None:
    from tests.inference import chain_model

    words = [f"word{number} ".encode() for number in range(50)]
    model = chain_model.write_chain(tmp_path / "long.gguf", words, loop=True)
    seed = ("--models", str(tmp_path / "models"), "--seed-model", f"tiny-long={model}")
    with (
        Server("inference.engine", *seed) as engine,
        Server("inference.gateway", "--valkey", valkey_url, "--engine", f"embedded={engine.url}") as gateway,
    ):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        body = {"model": "tiny-long", "prompt": "x", "options": {"num_predict": 30_000}}
        connection.request("POST", "/api/generate", json.dumps(body))
        response = connection.getresponse()
        response.readline()
        os.kill(engine.process.pid, signal.SIGKILL)
        last = response.read().strip().split(b"\n")[-1]
        assert "error" in json.loads(last)
        connection.close()
    assert records(store, 1)[0]["error"]


def test_records_wait_in_the_gateway_while_valkey_is_away(engine: Server) -> None:
    import tempfile
    from pathlib import Path

    from aicleaner_site.valkey import ValkeyServer

    folder = Path(tempfile.mkdtemp(prefix="aic-v-"))
    with Server(
        "inference.gateway", "--valkey", f"unix://{folder / 'v.sock'}", "--engine", f"embedded={engine.url}"
    ) as gateway:
        assert generate(gateway, stream=False).status == 200
        with ValkeyServer(folder / "v.sock") as server:
            client = redis.from_url(server.url)
            assert len(records(client, 1)) == 1
            client.close()


@pytest.mark.django_db
def test_the_worker_stores_each_record_once_and_empties_the_stream(
    gateway: Server, store: redis.Redis
) -> None:
    for _ in range(3):
        generate(gateway, stream=False)
    found = records(store, 3)
    assert services.store_request_records(store) == 3
    assert InferenceRequest.objects.count() == 3
    assert store.xlen(STREAM) == 0
    store.xadd(STREAM, {"r": json.dumps(found[0])})  # the gateway tried again after a broken connection
    store.xadd(STREAM, {"r": "no json"})
    services.store_request_records(store)
    assert InferenceRequest.objects.count() == 3
    assert store.xlen(STREAM) == 0


@pytest.mark.django_db
def test_what_a_killed_worker_had_read_is_stored_by_the_next(gateway: Server, store: redis.Redis) -> None:
    generate(gateway, stream=False)
    records(store, 1)
    store.xgroup_create(STREAM, services.GROUP, id="0", mkstream=True)
    store.xreadgroup(services.GROUP, services.CONSUMER, {STREAM: ">"})  # read, then killed before the commit
    services.store_request_records(store)
    assert InferenceRequest.objects.count() == 1


@pytest.mark.django_db
def test_old_records_go_and_young_ones_stay() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    for days in (1, 29, 31):
        InferenceRequest.objects.create(
            request_id=str(days),
            at=now - timedelta(days=days),
            path="/",
            api="x",
            kind="x",
            stream=False,
            status=200,
            total_ms=1,
            request_bytes=0,
            response_bytes=0,
            cache="bypass",
        )
    assert services.delete_request_records(now=now, keep_days=30) == 1
    assert InferenceRequest.objects.count() == 2


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.booleans())
def test_a_meter_takes_any_answer_without_falling(chunks: list[bytes], stream: bool) -> None:
    meter = Meter("id", "/api/generate", "client", "ip")
    meter.status, meter.stream = 200, stream
    for chunk in chunks:
        meter.see(chunk)
    record = meter.record()
    assert record["response_bytes"] == sum(map(len, chunks))


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_quantile_is_one_of_the_values_and_grows(values: list[float]) -> None:
    ordered = sorted(values)
    found = [quantile(ordered, q) for q in (0.0, 0.5, 0.95)]
    assert all(each in values for each in found)
    assert found == sorted(found)  # type: ignore[type-var]


def test_tokens_that_streamed_are_corrected_by_the_engine_s_count() -> None:
    stats = Stats(0.0)
    stats.pieces(10)
    record = {
        "model": "m",
        "error": "",
        "cache": "bypass",
        "output_tokens": 12,
        "prompt_tokens": 5,
        "ttft_ms": 20.0,
    }
    stats.finished(record, 10, 0.5)
    snapshot = stats.snapshot(1.0)
    assert snapshot["tokens_per_s"] == pytest.approx(12)
    assert snapshot["prompt_tokens_per_s"] == pytest.approx(5)
    assert snapshot["ttft_p50_ms"] == 20.0
    assert stats.snapshot(70.0)["ttft_p50_ms"] is None
