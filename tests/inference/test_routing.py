"""Which engine answers: of several local ones the first that has the model. And servers of an older Ollama."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from tests.inference import gateways
from tests.inference.old_ollama import OldOllama, old_ollama
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.product import wait_for

SAMPLE = "aicleaner-sample"


def local(server: OldOllama, name: str = "shed", priority: int = 50) -> dict[str, Any]:
    return {"kind": "ollama", "name": name, "url": server.url, "priority": priority}


def names(server: Server, path: str = "/api/tags") -> list[str]:
    answer = json.loads(call(server.url, "GET", path, {}, None).body)
    return [each.get("name") or each["id"] for each in answer.get("models") or answer.get("data") or ()]


def ask(server: Server, model: str, path: str = "/api/generate", **more: Any) -> Answer:
    return call(server.url, "POST", path, {}, {"model": model, "prompt": "hi", "stream": False, **more})


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with gateways.start(engine, own_valkey) as server:
        yield server


@pytest.fixture
def shed() -> Iterator[OldOllama]:
    with old_ollama("broom", f"{SAMPLE}:latest") as server:
        yield server


def test_each_model_is_answered_by_the_engine_that_has_it(
    gateway: Server, own_store: redis.Redis, shed: OldOllama
) -> None:
    """The added one comes before the embedded one, so that a model of both is its."""
    assert ask(gateway, SAMPLE, options={"num_predict": 2}).headers["x-aicleaner-engine"] == "embedded"
    assert gateways.hand_over_engines(own_store, local(shed)) == "ok"
    gateways.wait_until_up(own_store, "shed")
    assert set(names(gateway)) >= {"broom", f"{SAMPLE}:latest", "tiny-script:latest"}
    assert names(gateway).count(f"{SAMPLE}:latest") == 1
    assert "tiny-script:latest" in names(gateway, "/v1/models")
    engines = {
        name: ask(gateway, name).headers["x-aicleaner-engine"] for name in ("broom", SAMPLE, "tiny-script")
    }
    assert engines == {"broom": "shed", SAMPLE: "shed", "tiny-script": "embedded"}
    answer = ask(gateway, "broom")
    assert (json.loads(answer.body)["response"], answer.headers["x-aicleaner-route"]) == (
        "Wipe the table.",
        "local",
    )
    assert [each["engine_kind"] for each in gateways.records(own_store, 2)] == ["embedded", "shed"]


def test_a_model_that_nobody_has_is_refused_by_the_first_engine(
    gateway: Server, own_store: redis.Redis, shed: OldOllama
) -> None:
    gateways.hand_over_engines(own_store, local(shed))
    gateways.wait_until_up(own_store, "shed")
    answer = ask(gateway, "nowhere")
    assert (answer.status, answer.headers["x-aicleaner-engine"]) == (404, "shed")


def test_questions_about_one_model_go_to_its_engine(
    gateway: Server, own_store: redis.Redis, shed: OldOllama
) -> None:
    gateways.hand_over_engines(own_store, local(shed))
    gateways.wait_until_up(own_store, "shed")
    shown = call(gateway.url, "POST", "/api/show", {}, {"model": "tiny-script"})
    assert json.loads(shown.body)["model_info"]
    shown = call(gateway.url, "POST", "/api/show", {}, {"name": "broom"})
    assert json.loads(shown.body)["modelfile"] == "FROM /m"
    assert call(gateway.url, "GET", "/v1/models/tiny-script", {}, None).status == 200


def test_one_that_goes_away_leaves_its_models_to_others_and_comes_back(
    gateway: Server, own_store: redis.Redis
) -> None:
    with old_ollama(f"{SAMPLE}:latest") as shed:
        port = shed.server_port
        gateways.hand_over_engines(own_store, local(shed))
        gateways.wait_until_up(own_store, "shed")
        assert ask(gateway, SAMPLE).headers["x-aicleaner-engine"] == "shed"
    answer = ask(gateway, SAMPLE, options={"num_predict": 2})
    assert (answer.status, answer.headers["x-aicleaner-engine"]) == (200, "embedded")
    told = gateways.wait_until_up(own_store, "shed", up=False)
    assert "refused" in told["error"]
    with old_ollama(f"{SAMPLE}:latest", port=port):
        wait_for(lambda: ask(gateway, SAMPLE).headers["x-aicleaner-engine"] == "shed", "it is used again")


def test_one_that_is_taken_out_of_use_answers_no_more(
    gateway: Server, own_store: redis.Redis, shed: OldOllama
) -> None:
    gateways.hand_over_engines(own_store, local(shed))
    gateways.wait_until_up(own_store, "shed")
    gateways.hand_over_engines(own_store)
    assert ask(gateway, "broom").headers["x-aicleaner-engine"] == "embedded"
    assert "broom" not in names(gateway)


def test_an_address_that_is_not_allowed_is_never_connected_to(
    gateway: Server, own_store: redis.Redis
) -> None:
    away = {"kind": "ollama", "name": "meta", "url": "http://169.254.169.254", "priority": 1}
    assert "Nothing is sent to 169.254.169.254" in gateways.hand_over_engines(own_store, away)
    assert gateways.health(own_store, "meta") == {}


def test_a_state_that_makes_no_sense_is_refused_and_the_last_stays(
    gateway: Server, own_store: redis.Redis, shed: OldOllama
) -> None:
    gateways.hand_over_engines(own_store, local(shed))
    gateways.wait_until_up(own_store, "shed")
    assert "can't read the engines" in gateways.hand_over_engines(own_store, {"nonsense": 1})
    assert ask(gateway, "broom").headers["x-aicleaner-engine"] == "shed"


@pytest.fixture
def old_gateway(own_valkey: ValkeyServer, shed: OldOllama) -> Iterator[Server]:
    options = ("--valkey", own_valkey.url, "--engine", f"ollama={shed.url}")
    with Server("inference.gateway", *options) as server:
        yield server


def test_an_older_ollama_is_used_as_it_is(
    old_gateway: Server, own_store: redis.Redis, shed: OldOllama
) -> None:
    told = gateways.wait_until_up(own_store, "ollama")
    assert (told["version"], told["n_models"], told["error"]) == ("0.1.32", 2, "")
    answer = ask(old_gateway, "broom", options={"temperature": 0})
    assert (answer.status, answer.headers["x-aicleaner-cache"]) == (
        200,
        "bypass",
    )  # no digest, so nothing to keep by
    (record,) = gateways.records(own_store, 1)
    assert (record["prompt_tokens"], record["output_tokens"], record["error"]) == (9, 3, "")
    chat = {"model": "broom", "messages": [{"role": "user", "content": "hi"}]}
    lines = call(old_gateway.url, "POST", "/api/chat", {}, chat).body.splitlines()
    assert json.loads(lines[-1])["done"] is True
    assert call(old_gateway.url, "GET", "/api/ps", {}, None).status == 404  # as it came


def test_an_endpoint_that_an_older_ollama_lacks_is_named(old_gateway: Server, own_store: redis.Redis) -> None:
    gateways.wait_until_up(own_store, "ollama")
    answer = call(old_gateway.url, "POST", "/api/embed", {}, {"model": "broom", "input": "hi"})
    said = json.loads(answer.body)["error"]
    assert answer.status == 404
    assert said.startswith("ollama 0.1.32 has no /api/embed: it is too old for it; /api/embeddings")
    answer = call(old_gateway.url, "POST", "/v1/embeddings", {}, {"model": "broom", "input": "hi"})
    assert "0.1.32 has no /v1/embeddings" in json.loads(answer.body)["error"]["message"]
    assert next(each["error"] for each in gateways.records(own_store, 2)) == said
    old = call(old_gateway.url, "POST", "/api/embeddings", {}, {"model": "broom", "prompt": "hi"})
    assert json.loads(old.body) == {"embedding": [0.5, -0.5]}
