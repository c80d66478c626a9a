"""Options that load a model anew, and who changed them: by the recorded reload matrix, and through the gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from aicleaner_site.valkey import ValkeyServer
from inference import services
from inference.gateway.loads import Loads, kept_tokens, load_options
from inference.gateway.prompts import prompt_bytes, prompt_text, texts
from inference.gateway.records import MAX_WAITING_PROMPTS, Records
from inference.models import InferenceRequest, KeptPrompt
from inference.services import RELOAD_MS
from tests.inference import gateways
from tests.inference.logged import make_request
from tests.inference.serving import Server
from tests.inference.test_transcripts import call
from tests.product import wait_for

MATRIX = Path(__file__).with_name("transcripts") / "reload-matrix.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def record(client: str = "a", **values: Any) -> dict[str, Any]:
    return {"status": 200, "error": "", "done_reason": "stop", "client": client, **values}


def note(loads: Loads, asked: dict[str, Any], at: float, **values: Any) -> dict[str, Any]:
    found = record(**values)
    loads.note("m", asked, found, started=at - 1, now=at)
    return found


def test_the_recorded_reloads_are_told_from_what_loads_nothing_anew() -> None:
    """Each step of the matrix that restarted the runner for an option, and none of the others."""
    loads, reloaded, restarted = Loads(), [], []
    for at, row in enumerate(json.loads(MATRIX.read_text())["rows"]):
        step = row["step"]
        if row["status"] != 200 or "tag of" in step or "back to" in step or "other quant" in step:
            continue  # another name or file: no matter of options
        asked = load_options({"options": row["options"], **row.get("extra", {})})
        found = note(loads, asked, float(at))
        loads.see("m", min(found["num_ctx"] or 4096, 4096), idle=True)  # as /api/ps says between two
        if "previous_options" in found and row["load_ms"] >= RELOAD_MS:
            reloaded.append(step)
        if row["runner_restarted"] and "cold" not in step:
            restarted.append(step)
    assert len(restarted) > 12
    assert reloaded == restarted


def test_the_context_is_known_once_the_engine_tells_it() -> None:
    loads = Loads()
    assert note(loads, {}, 1.0)["load_options"] == {}
    loads.see("other", 2048, idle=True)
    loads.see("m", 4096, idle=False)  # all requests so far left it open: it can be no other's
    found = note(loads, {}, 2.0)
    assert (found["num_ctx"], found["load_options"]) == (4096, {"num_ctx": 4096})
    assert "previous_options" not in found
    capped = note(loads, {"num_ctx": 100_000}, 3.0)
    assert capped["previous_options"] == {"num_ctx": 4096}
    loads.see("m", 8192, idle=False)  # others may be running: whose it is can't be said
    assert loads.num_ctx("m", {"num_ctx": 100_000}) == 100_000
    loads.see("m", 8192, idle=True)
    assert loads.num_ctx("m", {"num_ctx": 100_000}) == 8192
    assert loads.num_ctx("m", {}) == 4096
    loads.keep(())
    assert loads.num_ctx("m", {}) is None


def test_a_change_names_the_client_before_unless_the_model_was_gone_by_then() -> None:
    loads = Loads()
    note(loads, {"num_ctx": 4096}, 10.0, client="home")
    changed = note(loads, {"num_ctx": 8192}, 20.0, client="report")
    assert changed["previous_options"] == {"num_ctx": 4096}
    assert changed["previous_client"] == "home"
    assert "previous_options" not in note(loads, {"num_ctx": 8192}, 30.0)
    assert "previous_options" not in note(loads, {"num_ctx": 4096}, 10_000.0)  # unloaded long ago
    note(loads, {}, 10_001.0, done_reason="unload")
    assert "previous_options" not in note(loads, {"num_ctx": 2048}, 10_002.0)
    assert "previous_options" not in note(loads, {"num_ctx": 512}, 10_003.0, status=500, error="x")
    assert "previous_options" not in note(loads, {"num_ctx": 2048}, 10_004.0)


def test_a_client_s_many_sizes_are_bounded() -> None:
    loads = Loads()
    for size in range(1, 1000):
        note(loads, {"num_ctx": size}, float(size))
    assert len(loads._sizes["m"]) == 16


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"options": {"num_ctx": 2.9, "temperature": 0, "num_gpu": -1, "num_thread": 0}}, {"num_ctx": 2}),
        (
            {"options": {"num_gpu": 0, "num_thread": 4}, "shift": False},
            {"num_gpu": 0, "num_thread": 4, "shift": False},
        ),
        ({"options": {"num_ctx": True, "num_batch": "9"}, "shift": True}, {}),
        ({"options": {"num_ctx": float("inf"), "num_batch": float("nan")}}, {}),
        ({"options": [1]}, {}),
    ],
)
def test_options_of_loading_are_read_as_the_engine_reads_them(values: Any, expected: Any) -> None:
    assert load_options(values) == expected


@given(st.dictionaries(st.sampled_from(["prompt", "messages", "input", "system", "options", "shift"]), JSON))
def test_no_request_is_too_odd(values: dict[str, Any]) -> None:
    json.dumps(load_options(values), allow_nan=False)
    assert kept_tokens(values) >= 0
    assert prompt_bytes(values) >= 0
    text, _ = prompt_text(values, 64)
    assert len(text.encode()) <= 64 + 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"prompt": "é", "system": "s", "suffix": "x", "images": ["aaaa"]}, ["s", "é", "x"]),
        ({"messages": [{"content": "a", "images": ["zz"]}, {"content": None}, 7]}, ["a"]),
        (
            {
                "messages": [
                    {"content": [{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {}}]}
                ]
            },
            ["b"],
        ),
        ({"input": ["a", "b"], "instructions": "c"}, ["c", "a", "b"]),
        ({"system": [{"type": "text", "text": "d"}], "input": [{"content": [{"text": "e"}]}]}, ["d", "e"]),
    ],
)
def test_the_texts_of_every_api_are_found(values: Any, expected: list[str]) -> None:
    assert list(texts(values)) == expected
    assert prompt_bytes(values) == sum(len(each.encode()) for each in expected)


@pytest.mark.parametrize(
    ("values", "limit", "expected"),
    [
        ({"prompt": "abc"}, 3, ("abc", False)),
        ({"prompt": "abcd"}, 3, ("abc", True)),
        ({"prompt": "aéé"}, 4, ("aé", True)),
        ({"system": "ab", "prompt": "cd"}, 64, ("ab\n\ncd", False)),
        ({"system": "ab", "prompt": "cdef"}, 6, ("ab\n\ncd", True)),
        ({"system": "ab", "prompt": "cdef"}, 3, ("ab", True)),
    ],
)
def test_a_prompt_is_kept_to_its_limit(values: Any, limit: int, expected: tuple[str, bool]) -> None:
    assert prompt_text(values, limit) == expected


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with gateways.start(engine, own_valkey, "--keep-prompts", "100") as server:
        yield server


@pytest.mark.django_db
def test_two_clients_that_flip_num_ctx_are_found_out_on_the_real_engine(
    gateway: Server, own_store: redis.Redis
) -> None:
    """And the answer of /v1, which tells no times, counts by its change."""
    for client, size in (("home", 256), ("home", 256), ("report", 384), ("home", 256)):
        options = {"num_ctx": size, "num_predict": 1}
        gateways.generate(gateway, {"x-aicleaner-client": client}, options=options)
    body = {
        "model": "aicleaner-sample",
        "messages": [{"role": "user", "content": "x"}],
        "options": {"num_ctx": 384},
    }
    call(gateway.url, "POST", "/v1/chat/completions", {"x-aicleaner-client": "report"}, body)

    def count() -> int:
        services.store_request_records(own_store)
        return InferenceRequest.objects.count()

    wait_for(lambda: count() == 5, "all are stored", 10)
    first, same, report, home, v1 = InferenceRequest.objects.order_by("at")
    assert [each.reloaded for each in (first, same, report, home, v1)] == [False, False, True, True, True]
    assert (report.previous_client, report.changed_options) == ("home", [("num_ctx", 256, 384)])
    assert report.load_ms is not None
    assert report.load_ms > RELOAD_MS
    assert v1.load_ms is None
    assert v1.changed_options == [("num_ctx", 256, 384)]
    # What the setting says is kept, no more, and not in the row.
    kept = first.kept_prompt
    assert kept.text == gateways.ROOM[:100]
    assert not kept.shortened
    assert "dishes" not in f"{kept} {first}"


def test_options_that_stand_in_v1_load_nothing_in_a_real_ollama(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    """The embedded engine plays it: what counts is for what the gateway takes it."""
    arguments = ("--valkey", own_valkey.url, "--engine", f"ollama={engine.url}")
    body = {
        "model": "tiny-script",
        "messages": [{"role": "user", "content": "x"}],
        "options": {"num_ctx": 256},
    }
    with Server("inference.gateway", *arguments) as gateway:
        call(gateway.url, "POST", "/v1/chat/completions", {}, body)
        call(gateway.url, "POST", "/api/chat", {}, {**body, "stream": False})
        wait_for(lambda: own_store.xlen("aicleaner:gateway:records") == 2, "both records are there", 10)
    found: Any = own_store.xrange("aicleaner:gateway:records")
    v1, native = (json.loads(fields[b"r"]) for _, fields in found)
    assert v1["load_options"].get("num_ctx") != 256
    assert native["load_options"] == {"num_ctx": 256}


@pytest.mark.django_db
def test_an_odd_record_neither_stops_the_others_nor_says_its_prompt(
    own_store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    whole = make_request()
    values = {
        field: getattr(whole, field)
        for field in services.FIELDS
        if field not in {"failed", "reloaded", "truncated", "truncated_why"}
    }
    values["at"] = whole.at.timestamp()
    odd: list[dict[str, Any]] = [
        {"prompt_bytes": "x", "prompt": "secret"},
        {"num_ctx": [], "kept_tokens": {}, "prompt": "secret"},
        {"status": "x", "prompt": "secret"},
        {"prompt": "sec\0ret"},
        {"prompt": 7},
    ]
    for number, each in enumerate(odd):
        own_store.xadd(services.STREAM, {"r": json.dumps({**values, "request_id": str(number), **each})})
    own_store.xadd(services.STREAM, {"r": json.dumps({"prompt": "secret"})})
    own_store.xadd(services.STREAM, {"r": "[1]"})
    services.store_request_records(own_store)
    assert set(InferenceRequest.objects.values_list("request_id", flat=True)) == {"3", "4"}
    assert [each.text for each in KeptPrompt.objects.all()] == ["secret"]
    assert "secret" not in caplog.text
    assert int(own_store.get(services.REFUSED_KEY) or 0) == 5


def test_without_the_setting_no_record_holds_a_prompt(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    with gateways.start(engine, own_valkey) as gateway:
        gateways.generate(gateway, options={"num_predict": 1})
        wait_for(lambda: own_store.xlen("aicleaner:gateway:records") == 1, "the record is there")
    found: Any = own_store.xrange("aicleaner:gateway:records")
    assert b"dishes" not in found[0][1][b"r"]


def test_prompts_are_left_out_while_many_records_wait() -> None:
    records = Records(redis.asyncio.Redis())
    assert records.takes_prompts
    for _ in range(MAX_WAITING_PROMPTS):
        records.add({})
    assert not records.takes_prompts
