"""A cloud answers where the local engine can't, or need not: when, in which words, and for how much."""

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from cryptography.fernet import Fernet

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.aliases import Fallback
from inference.gateway.engines import Engine, Engines
from inference.gateway.loads import Loads
from inference.gateway.models import Models
from inference.gateway.profile import Gate
from inference.gateway.pushed import ENGINE_KEYS
from inference.gateway.routing import Pressure, Routing
from inference.gateway.sessions import Sessions
from safeguards.sealing import engine_secrets
from tests.inference import gateways
from tests.inference.cloud_server import KEY, CloudServer, cloud_server
from tests.inference.old_ollama import OldOllama, old_ollama
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.product import wait_for

CHAT = {"model": "broom", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    folder = Path(tempfile.mkdtemp(prefix="aic-v-"))
    with ValkeyServer(folder / "v.sock") as server:
        yield server


@pytest.fixture(scope="module")
def gateway(valkey: ValkeyServer) -> Iterator[Server]:
    """Its own engine is dead: each test hands over others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENGINE_KEYS, " ".join(engine_secrets.keys()))
        dead = ("--engine", "embedded=http://127.0.0.1:1")
        with Server("inference.gateway", "--valkey", valkey.url, *dead) as server:
            yield server


@pytest.fixture
def store(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
def cloud() -> Iterator[CloudServer]:
    with cloud_server() as server:
        yield server


@pytest.fixture
def shed() -> Iterator[OldOllama]:
    with old_ollama("broom") as server:
        yield server


def fields(server: CloudServer, key: str = KEY, **more: Any) -> dict[str, Any]:
    sealed = engine_secrets.seal({"key": key} if key else {})
    return {"kind": "openai", "name": "sky", "url": server.url, "priority": 50, "sealed": sealed, **more}


def add(
    store: redis.Redis,
    shed: OldOllama,
    server: CloudServer,
    *,
    when: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    """Both, and a fallback of `broom` from one to the other; returns when the local one is known."""
    local = {"kind": "ollama", "name": "shed", "url": shed.url, "priority": 50}
    assert gateways.hand_over_engines(store, local, fields(server, **more)) == "ok"
    assert gateways.hand_over_fallback(store, "broom", "sky", "gpt-4o-mini", **(when or {})) == "ok"
    wait_for(
        lambda: (told := gateways.health(store, "shed")).get("url") == shed.url and told["n_models"] == 1,
        "the local engine is known",
    )


def chat(server: Server, path: str = "/api/chat", **more: Any) -> Answer:
    return call(server.url, "POST", path, {}, {**CHAT, **more})


def facts(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["x-aicleaner-engine"], answer.headers["x-aicleaner-route"]


def test_the_local_engine_answers_while_it_can(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    assert facts(chat(gateway)) == (200, "shed", "local")
    assert cloud.requests == []


def test_a_dead_engine_leaves_the_request_to_the_cloud(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    """At once, not when its death is noticed; in the words of the client, streamed and not, with nothing of its headers."""
    add(store, shed, cloud)
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
    whole = chat(gateway, stream=False)
    assert json.loads(whole.body)["message"]["content"] == "Mop the floor."
    for each in (gateways.record_of(store, told) for told in (answer, whole)):
        assert (each["model"], each["alias"], each["engine_kind"]) == ("gpt-4o-mini", "broom", "sky")
        assert (each["route"], each["prompt_tokens"], each["output_tokens"]) == (
            "fallback: engine down",
            1000,
            500,
        )
        assert (each["error"], each["cached_tokens"]) == ("", 0)


def test_a_client_of_v1_gets_openais_words_and_no_counts_that_it_did_not_ask_for(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    shed.status = 503
    answer = chat(gateway, "/v1/chat/completions", stream=True)
    assert answer.status == 404  # this old one has no /v1: that is no failure of the engine
    shed.die()
    answer = chat(gateway, "/v1/chat/completions", stream=True)
    assert answer.headers["x-aicleaner-engine"] == "sky"
    assert b'"usage"' not in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert gateways.record_of(store, answer)["output_tokens"] == 500
    asked = chat(gateway, "/v1/chat/completions", stream=True, stream_options={"include_usage": True})
    assert b'"usage"' in asked.body


def test_an_engine_in_trouble_or_silent_for_too_long_is_helped_out(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud, when={"first_byte_s": 0.2})
    shed.status = 500
    assert facts(chat(gateway)) == (200, "sky", "fallback: the engine answered 500")
    shed.status, shed.silent = 200, True
    assert facts(chat(gateway)) == (200, "sky", "fallback: no answer in time")
    shed.silent = False
    shed.go_on.set()
    assert facts(chat(gateway)) == (200, "shed", "local")


def test_an_error_of_the_clients_is_no_reason(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    shed.status = 400
    assert facts(chat(gateway)) == (400, "shed", "local")
    assert cloud.requests == []


def test_too_many_that_wait_go_to_the_cloud(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud, when={"on_queue": 0})
    shed.silent = True
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, gateway)
        assert shed.asked.wait(30)
        assert facts(chat(gateway)) == (200, "sky", "fallback: 1 request waits")
        shed.go_on.set()
        assert facts(waiting.result()) == (200, "shed", "local")


@pytest.mark.parametrize(
    ("wanted", "level", "goes"),
    [("", "high", False), ("high", "some", False), ("high", "high", True), ("some", "some", True)],
)
def test_memory_pressure_is_a_reason_from_its_level_on(wanted: str, level: str, goes: bool) -> None:
    engine = Engine("ollama", "http://127.0.0.1:1", up=True)
    engines = Engines([engine], cast("Sessions", None), {})  # nobody is asked
    routing = Routing(engines, Models(engines, Loads(), Gate(1)), Pressure(level))
    why = routing.why_cloud(Fallback("sky", "m", on_pressure=wanted), "broom:latest", engine, 0)
    assert why == (f"fallback: memory pressure {level}" if goes else "")


def test_nothing_goes_to_a_cloud_whose_budget_is_used_up(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    month = time.strftime("%Y-%m", time.gmtime())
    spent = {"budget_usd": 5.0, "spent_usd": 5.0, "month": month}
    add(store, shed, cloud, when={"on_queue": 0}, **spent)
    wait_for(lambda: gateways.health(store, "sky").get("up"), "the cloud is known")
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
    add(store, shed, cloud, budget_usd=5.0, spent_usd=5.0, month="2020-01")
    assert facts(chat(gateway))[:2] == (200, "sky")


def test_a_cloud_is_asked_for_its_own_models_by_their_names(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    wait_for(lambda: gateways.health(store, "sky").get("n_models") == 2, "its models are known")
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
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
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
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama,
    refusal: tuple[int, dict[str, Any]], status: int, said: str,
) -> None:  # fmt: skip
    add(store, shed, cloud)
    shed.die()
    cloud.refusal = refusal
    answer = chat(gateway)
    assert answer.status == status
    assert said in json.loads(answer.body)["error"]


def test_a_key_is_never_told_and_a_refused_one_is_no_fault_of_the_clients(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    wrong = "sk-wrong-9876543210"
    add(store, shed, cloud, key=wrong)
    shed.die()
    answer = chat(gateway)
    assert answer.status == 502
    assert "sky answered HTTP 401: Incorrect API key provided: …" in json.loads(answer.body)["error"]
    told = wait_for(lambda: gateways.health(store, "sky").get("error"), "the error is told")
    assert "401" in told
    record = gateways.record_of(store, answer)
    everything = [json.dumps(record), told, answer.body.decode(), Path(gateway.log.name).read_text()]
    every_value = [store.get(key) for key in store.keys("*") if store.type(key) == b"string"]
    assert not [each for each in everything if wrong in each]
    assert not [each for each in every_value if wrong.encode() in (each or b"")]


def test_a_key_sealed_for_another_product_is_said(
    gateway: Server, store: redis.Redis, cloud: CloudServer
) -> None:
    sealed = Fernet(Fernet.generate_key()).encrypt(b'{"key": "k"}').decode()
    assert "stored under another secret key" in gateways.hand_over_engines(
        store, {**fields(cloud), "sealed": sealed}
    )


def test_a_cloud_that_breaks_off_amid_its_stream_says_so_in_a_line(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    shed.die()
    cloud.events = cloud.events[:2]
    answer = chat(gateway)
    lines = answer.body.splitlines()
    assert json.loads(lines[0])["message"]["content"] == "Mop "
    assert "its stream ended before it was done" in json.loads(lines[-1])["error"]
    assert "ended before" in gateways.record_of(store, answer)["error"]


def test_with_both_of_them_down_both_are_named(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    for server in (shed, cloud):
        server.die()
    answer = chat(gateway)
    assert answer.status == 502
    said = json.loads(answer.body)["error"]
    assert "the engine at" in said or "no engine that answers has broom" in said  # as it is known to be down
    assert "sky failed: Connection refused" in said


def test_a_connection_that_the_cloud_has_closed_meanwhile_costs_no_answer(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud)
    shed.die()
    for _ in range(5):
        assert chat(gateway).status == 200
        cloud.hang_up()


def test_a_cloud_that_fails_amid_pressure_leaves_the_request_to_the_local_engine(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud, when={"on_queue": 0})
    cloud.refusal = 500, {"error": {"message": "oops"}}
    shed.silent = True
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(chat, gateway)
        assert shed.asked.wait(30)
        second = pool.submit(chat, gateway)
        wait_for(lambda: cloud.requests, "the cloud was asked")
        shed.go_on.set()
        assert facts(waiting.result()) == (200, "shed", "local")
        assert facts(second.result()) == (200, "shed", "local: sky failed")
    assert "x-aicleaner-model" not in second.result().headers


def test_where_both_fail_the_cloud_s_status_is_told_whoever_was_asked_first(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    add(store, shed, cloud, when={"on_queue": 0})
    cloud.refusal = 429, {"error": {"message": "slow down"}}
    shed.silent, shed.status = True, 500
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(chat, gateway)
        assert shed.asked.wait(30)
        second = pool.submit(chat, gateway)
        wait_for(lambda: cloud.requests, "the cloud was asked")
        shed.go_on.set()
        for answer in (first.result(), second.result()):
            assert answer.status == 429
            assert "answered HTTP 500" in json.loads(answer.body)["error"]
            assert "slow down" in json.loads(answer.body)["error"]


def test_another_engine_that_lacks_the_model_is_not_asked_before_the_cloud(
    gateway: Server, store: redis.Redis, cloud: CloudServer, shed: OldOllama
) -> None:
    with old_ollama("mop") as attic:
        local = {"kind": "ollama", "name": "shed", "url": shed.url, "priority": 50}
        other = {"kind": "ollama", "name": "attic", "url": attic.url, "priority": 60}
        assert gateways.hand_over_engines(store, local, other, fields(cloud)) == "ok"
        assert gateways.hand_over_fallback(store, "broom", "sky", "gpt-4o-mini") == "ok"
        for name in ("shed", "attic"):
            gateways.wait_until_up(store, name)
        wait_for(lambda: facts(chat(gateway))[1] == "shed", "the local one is used")
        shed.die()
        assert facts(chat(gateway)) == (200, "sky", "fallback: engine down")
