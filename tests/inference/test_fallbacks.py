"""A cloud answers where the local engine can't, or need not: when, in which words, and for how much."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.aliases import Fallback
from inference.gateway.engines import Engine
from inference.gateway.pushed import ENGINE_KEYS
from inference.gateway.routing import Pressure, Routing
from safeguards.sealing import engine_secrets
from tests.inference import gateways
from tests.inference.cloud_server import KEY, CloudServer, cloud_server
from tests.inference.old_ollama import OldOllama, old_ollama
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.product import wait_for

CHAT = {"model": "broom", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def cloud() -> Iterator[CloudServer]:
    with cloud_server() as server:
        yield server


@pytest.fixture
def shed() -> Iterator[OldOllama]:
    with old_ollama("broom") as server:
        yield server


@pytest.fixture
def gateway(own_valkey: ValkeyServer, shed: OldOllama, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(ENGINE_KEYS, " ".join(engine_secrets.keys()))
    with Server("inference.gateway", "--valkey", own_valkey.url, "--engine", f"ollama={shed.url}") as server:
        yield server


def fields(server: CloudServer, key: str = KEY, **more: Any) -> dict[str, Any]:
    sealed = engine_secrets.seal({"key": key} if key else {})
    return {"kind": "openai", "name": "sky", "url": server.url, "priority": 50, "sealed": sealed, **more}


def add(store: redis.Redis, server: CloudServer, *, when: dict[str, Any] | None = None, **more: Any) -> None:
    """The cloud, and a fallback of `broom` to it."""
    assert gateways.hand_over_engines(store, fields(server, **more)) == "ok"
    assert gateways.hand_over_fallback(store, "broom", "sky", "gpt-4o-mini", **(when or {})) == "ok"


def chat(server: Server, path: str = "/api/chat", **more: Any) -> Answer:
    return call(server.url, "POST", path, {}, {**CHAT, **more})


def facts(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["x-aicleaner-engine"], answer.headers["x-aicleaner-route"]


def test_the_local_engine_answers_while_it_can(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer
) -> None:
    add(own_store, cloud)
    assert facts(chat(gateway)) == (200, "ollama", "local")
    assert cloud.requests == []


def test_a_dead_engine_leaves_the_request_to_the_cloud(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    """At once, not when its death is noticed; in the words of the client, streamed and not, with nothing of its headers."""
    add(own_store, cloud)
    shed.die()
    answer = call(gateway.url, "POST", "/api/chat", {"Authorization": "Bearer mine", "Cookie": "a=b"}, CHAT)
    assert facts(answer) == (200, "sky", "fallback: engine down")
    assert answer.headers["x-aicleaner-model"] == "gpt-4o-mini"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert "".join(each["message"]["content"] for each in lines) == "Mop the floor."
    assert (lines[-1]["done"], lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (True, 1000, 500)
    path, body, headers = cloud.requests[0]
    assert (path, body["model"], headers["authorization"]) == (
        "/v1/chat/completions",
        "gpt-4o-mini",
        f"Bearer {KEY}",
    )
    assert "cookie" not in headers
    whole = json.loads(chat(gateway, stream=False).body)
    assert whole["message"]["content"] == "Mop the floor."
    for each in gateways.records(own_store, 2):
        assert (each["model"], each["alias"], each["engine_kind"]) == ("gpt-4o-mini", "broom", "sky")
        assert (each["route"], each["prompt_tokens"], each["output_tokens"]) == (
            "fallback: engine down",
            1000,
            500,
        )
        assert (each["error"], each["cached_tokens"]) == ("", 0)


def test_a_client_of_v1_gets_openais_words_and_no_counts_that_it_did_not_ask_for(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud)
    shed.status = 503
    answer = chat(gateway, "/v1/chat/completions", stream=True)
    assert answer.status == 404  # this old one has no /v1: that is no failure of the engine
    shed.die()
    answer = chat(gateway, "/v1/chat/completions", stream=True)
    assert answer.headers["x-aicleaner-engine"] == "sky"
    assert b'"usage"' not in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert gateways.records(own_store, 2)[1]["output_tokens"] == 500
    asked = chat(gateway, "/v1/chat/completions", stream=True, stream_options={"include_usage": True})
    assert b'"usage"' in asked.body


def test_an_engine_in_trouble_or_silent_for_too_long_is_helped_out(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud, when={"first_byte_s": 0.2})
    shed.status = 500
    assert facts(chat(gateway)) == (200, "sky", "fallback: the engine answered 500")
    shed.status, shed.silent = 200, True
    assert facts(chat(gateway)) == (200, "sky", "fallback: no answer in time")
    shed.silent = False
    shed.go_on.set()
    assert facts(chat(gateway)) == (200, "ollama", "local")


def test_an_error_of_the_clients_is_no_reason(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud)
    shed.status = 400
    assert facts(chat(gateway)) == (400, "ollama", "local")
    assert cloud.requests == []


def test_too_many_that_wait_go_to_the_cloud(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud, when={"on_queue": 0})
    shed.silent = True
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, gateway)
        assert shed.asked.wait(30)
        assert facts(chat(gateway)) == (200, "sky", "fallback: 1 requests wait")
        shed.go_on.set()
        assert facts(waiting.result()) == (200, "ollama", "local")


@pytest.mark.parametrize(
    ("wanted", "level", "goes"),
    [("", "high", False), ("high", "some", False), ("high", "high", True), ("some", "some", True)],
)
def test_memory_pressure_is_a_reason_from_its_level_on(wanted: str, level: str, goes: bool) -> None:
    engine = Engine("ollama", "http://127.0.0.1:1", up=True)
    routing = Routing(None, None, Pressure(level))  # type: ignore[arg-type] - not asked where the engine is known
    why = routing.why_cloud(Fallback("sky", "m", on_pressure=wanted), "broom:latest", engine, 0)
    assert why == (f"fallback: memory pressure {level}" if goes else "")


def test_nothing_goes_to_a_cloud_whose_budget_is_used_up(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    month = time.strftime("%Y-%m", time.gmtime())
    spent = {"budget_usd": 5.0, "spent_usd": 5.0, "month": month}
    add(own_store, cloud, when={"on_queue": 0}, **spent)
    wait_for(lambda: gateways.health(own_store, "sky").get("up"), "the cloud is known")
    direct = call(
        gateway.url, "POST", "/api/generate", {}, {"model": "gpt-4o-mini", "prompt": "a", "stream": False}
    )
    assert direct.status == 402
    assert f"the budget of sky for {month} is used up (5.00 of 5.00 USD)" in json.loads(direct.body)["error"]
    shed.status = 500
    answer = chat(gateway)
    assert answer.status == 500
    assert "signal: killed" in json.loads(answer.body)["error"]
    assert "is used up" in json.loads(answer.body)["error"]
    assert cloud.requests == []
    # What was spent in an earlier month counts no more.
    add(own_store, cloud, budget_usd=5.0, spent_usd=5.0, month="2020-01")
    assert facts(chat(gateway))[:2] == (200, "sky")


def test_a_cloud_is_asked_for_its_own_models_by_their_names(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer
) -> None:
    add(own_store, cloud)
    wait_for(lambda: gateways.health(own_store, "sky").get("n_models") == 2, "its models are known")
    listed = json.loads(call(gateway.url, "GET", "/v1/models", {}, None).body)["data"]
    assert {each["id"]: each["owned_by"] for each in listed}["gpt-4o-mini"] == "sky"
    tags = json.loads(call(gateway.url, "GET", "/api/tags", {}, None).body)["models"]
    assert [each["name"] for each in tags] == ["broom"]
    body = {"model": "gpt-4o-mini", "prompt": "hi", "stream": False, "options": {"top_k": 3}}
    answer = call(gateway.url, "POST", "/api/generate", {}, body)
    assert facts(answer) == (200, "sky", "cloud")
    assert answer.headers["x-aicleaner-ignored"] == "top_k"
    vectors = call(gateway.url, "POST", "/api/embed", {}, {"model": "text-embedding-3-small", "input": "hi"})
    assert json.loads(vectors.body)["embeddings"] == [[0.25, 0.5]]


def test_what_has_no_counterpart_is_said(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud)
    shed.die()
    answer = call(gateway.url, "POST", "/api/generate", {}, {"model": "broom", "prompt": "a", "raw": True})
    assert answer.status == 400
    assert "sky can't be asked this: 'raw'" in json.loads(answer.body)["error"]


@pytest.mark.parametrize(
    ("refusal", "status", "said"),
    [
        ((429, {"error": {"message": "slow down"}}), 429, "slow down"),
        ((400, {"error": {"message": "no such field"}}), 400, "no such field"),
        ((500, {"error": {"message": "oops"}}), 502, "oops"),
        ((302, {}), 502, "HTTP 302"),
    ],
)
def test_what_a_cloud_refuses_is_told(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama,
    refusal: tuple[int, dict[str, Any]], status: int, said: str,
) -> None:  # fmt: skip
    add(own_store, cloud)
    shed.die()
    cloud.refusal = refusal
    answer = chat(gateway)
    assert answer.status == status
    assert said in json.loads(answer.body)["error"]


def test_a_key_is_never_told_and_a_refused_one_is_no_fault_of_the_clients(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    wrong = "sk-wrong-9876543210"
    add(own_store, cloud, key=wrong)
    shed.die()
    answer = chat(gateway)
    assert answer.status == 502
    assert "sky answered HTTP 401: Incorrect API key provided: …" in json.loads(answer.body)["error"]
    told = wait_for(lambda: gateways.health(own_store, "sky").get("error"), "the error is told")
    assert "401" in told
    (record,) = gateways.records(own_store, 1)
    everything = [json.dumps(record), told, answer.body.decode(), Path(gateway.log.name).read_text()]
    every_value = [own_store.get(key) for key in own_store.keys("*") if own_store.type(key) == b"string"]
    assert not [each for each in everything if wrong in each]
    assert not [each for each in every_value if wrong.encode() in (each or b"")]


def test_a_key_sealed_for_another_product_is_said(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer
) -> None:
    sealed = Fernet(Fernet.generate_key()).encrypt(b'{"key": "k"}').decode()
    assert "stored under another secret key" in gateways.hand_over_engines(
        own_store, {**fields(cloud), "sealed": sealed}
    )


def test_a_cloud_that_breaks_off_amid_its_stream_says_so_in_a_line(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud)
    shed.die()
    cloud.events = cloud.events[:2]
    lines = chat(gateway).body.splitlines()
    assert json.loads(lines[0])["message"]["content"] == "Mop "
    assert "its stream ended before it was done" in json.loads(lines[-1])["error"]
    (record,) = gateways.records(own_store, 1)
    assert "ended before" in record["error"]


def test_with_both_of_them_down_both_are_named(
    gateway: Server, own_store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(own_store, cloud)
    for server in (shed, cloud):
        server.die()
    answer = chat(gateway)
    assert answer.status == 502
    said = json.loads(answer.body)["error"]
    assert "the engine at" in said
    assert "sky failed: Connection refused" in said
