"""The gateway before the real engine, with the real Valkey."""

import http.client
import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.db import DatabaseError, connection
from hypothesis import given
from hypothesis import strategies as st

from inference import services
from inference.gateway import records as gateway_records
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


def record(number: int, **fields: Any) -> dict[str, Any]:
    """As the gateway hands it over."""
    made = Meter(f"{number:032x}", "/api/generate", "client", "127.0.0.1", counted=True)
    made.status, made.engine = 200, "http://127.0.0.1:1"
    return {**made.record(), **fields}


def add(store: redis.Redis, *found: dict[str, Any]) -> None:
    for each in found:
        store.xadd(STREAM, {"r": json.dumps(each)})


@pytest.mark.django_db
def test_one_bad_record_is_counted_and_does_not_hold_up_the_others(store: redis.Redis) -> None:
    store.delete(services.REFUSED_KEY)
    texts = record(1, model="m\0" * 300, done_reason="x" * 90, engine="e" * 900)
    bad = [
        record(2, status=10**12),
        record(3, at=1e300),
        record(4, prompt_tokens="many"),
        record(5, stream=None),
    ]
    add(store, record(0), texts, *bad, record(6))
    services.store_request_records(store)
    stored = {row.request_id: row for row in InferenceRequest.objects.all()}
    # SQLite takes a number that PostgreSQL refuses as out of range.
    assert {f"{n:032x}" for n in (0, 1, 6)} <= set(stored) <= {f"{n:032x}" for n in (0, 1, 2, 6)}
    assert stored[f"{1:032x}"].model == ("m" * 300)[:200]
    assert store.xlen(STREAM) == 0
    n_refused: Any = store.get(services.REFUSED_KEY)
    assert int(n_refused) == 7 - len(stored)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_leaves_the_records_in_the_stream(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, *(record(number) for number in range(3)))
    table = InferenceRequest._meta.db_table
    with connection.schema_editor() as editor:
        editor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        with pytest.raises(DatabaseError):
            services.store_request_records(store)
    finally:
        with connection.schema_editor() as editor:
            editor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    assert store.xlen(STREAM) == 3
    assert services.store_request_records(store) == 3
    assert InferenceRequest.objects.count() == 3


async def test_what_finds_no_room_is_counted_and_published(
    store: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_records, "MAX_PENDING", 5)
    monkeypatch.setattr(gateway_records, "MAX_STREAM", 3)
    handing = gateway_records.Records(redis.asyncio.from_url(valkey_url))
    for number in range(7):
        handing.add(record(number))
    assert (handing.n_lost, len(handing.pending)) == (2, 5)
    monkeypatch.setattr(gateway_records, "BATCH", 2)
    await handing.flush()
    assert int(store.xlen(STREAM)) == 3
    store.set(gateway_records.REFUSED_KEY, 10)
    await handing.publish({})
    await handing.publish({})
    found: Any = store.get("aicleaner:gateway:stats")
    assert json.loads(found) == {"records_lost_total": 4 + 10, "records_pending": 0}
    store.delete(gateway_records.REFUSED_KEY)
    await handing.client.aclose()


def test_a_killed_gateway_loses_the_records_of_its_last_second_only(
    engine: Server, valkey_url: str, store: redis.Redis
) -> None:
    with Server("inference.gateway", "--valkey", valkey_url, "--engine", f"embedded={engine.url}") as gateway:
        for _ in range(3):
            generate(gateway, stream=False)
        records(store, 3)  # handed over
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(10)
    assert len(records(store, 3)) == 3


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
        "eval_ms": 60.0,
        "ttft_ms": 20.0,
        "total_ms": 90.0,
    }
    stats.finished(record, 10, 0.5)
    snapshot = stats.snapshot(1.0)
    assert snapshot["tokens_per_s"] == pytest.approx(12)
    assert snapshot["prompt_tokens_per_s"] == pytest.approx(5)
    assert snapshot["ttft_p50_ms"] == 20.0
    assert snapshot["total_p95_ms"] == 90.0
    stats.finished({**record, "error": "broken off", "total_ms": 1.0}, 10, 1.5)
    assert stats.snapshot(2.0)["total_p50_ms"] == 90.0
    assert stats.snapshot(70.0)["ttft_p50_ms"] is None


def test_a_model_s_speed_is_that_of_the_requests_that_ended_within_a_minute() -> None:
    stats = Stats(0.0)
    record = {
        "model": "m", "error": "", "cache": "miss", "output_tokens": 12, "prompt_tokens": 5, "eval_ms": 60.0, "ttft_ms": 9.0,
        "total_ms": 90.0,
    }  # fmt: skip
    stats.finished(record, 12, 0.5)
    assert stats.snapshot(1.0)["speeds"] == {"m": {"tokens_per_s": 200.0, "prompt_tokens": 5.0}}
    stats.finished({**record, "cache": "hit"}, 0, 1.1)  # generated another time
    stats.finished({**record, "error": "broken off"}, 0, 1.1)
    stats.finished({**record, "model": "n", "eval_ms": None}, 12, 1.1)  # the engine does not tell
    stats.finished({**record, "output_tokens": 8, "eval_ms": 140.0, "prompt_tokens": None}, 8, 1.1)
    assert stats.snapshot(1.2)["speeds"] == {"m": {"tokens_per_s": 100.0, "prompt_tokens": 5.0}}
    assert stats.snapshot(61.3)["speeds"] == {}
