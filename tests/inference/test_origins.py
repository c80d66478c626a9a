"""Pages that ask the gateway: those of this machine read every answer, those of elsewhere cost nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.pushed import ENGINE_KEYS
from safeguards.sealing import engine_secrets
from tests.inference import gateways
from tests.inference.cloud_server import KEY, cloud_server
from tests.inference.serving import Server
from tests.inference.stand_in import StandIn, stand_in
from tests.inference.test_transcripts import Answer, call

HERE, ELSEWHERE = "http://localhost:3000", "https://evil.example"


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(ENGINE_KEYS, " ".join(engine_secrets.keys()))
    with gateways.start(engine, own_valkey) as server:
        yield server


@pytest.fixture
def shed() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


def readable(answer: Answer) -> bool:
    """Whether a browser hands it to the page that asked."""
    return answer.origin == HERE and answer.headers["Vary"] == "Origin"


def ask(server: Server, origin: str, **fields: Any) -> Answer:
    options = {"temperature": 0, "num_predict": 3}
    return gateways.generate(server, {"Origin": origin}, **{"options": options, **fields})


def test_a_page_of_this_machine_reads_kept_answers_and_errors_of_the_gateway(gateway: Server) -> None:
    gateways.wait_until_listed(gateway)
    asked, kept = ask(gateway, HERE), ask(gateway, HERE)
    assert [each.headers["x-aicleaner-cache"] for each in (asked, kept)] == ["miss", "hit"]
    assert readable(asked)
    assert readable(kept)
    refused = call(
        gateway.url, "POST", "/api/generate", {"Origin": HERE, "x-aicleaner-profile": "nope"}, {"model": "m"}
    )
    assert refused.status == 400
    assert readable(refused)


def test_a_page_of_elsewhere_gets_no_kept_answer(gateway: Server) -> None:
    gateways.wait_until_listed(gateway)
    ask(gateway, HERE)
    answer = ask(gateway, ELSEWHERE)
    assert (answer.status, answer.body, answer.origin) == (403, b"", None)


def test_lists_of_several_engines_are_read_by_pages_of_this_machine_only(
    gateway: Server, own_store: redis.Redis, shed: StandIn
) -> None:
    added = {"kind": "ollama", "name": "shed", "url": shed.url, "priority": 95}
    assert gateways.hand_over_engines(own_store, added) == "ok"
    gateways.wait_until_up(own_store, "shed")
    for path in ("/api/tags", "/api/ps", "/v1/models"):
        assert readable(call(gateway.url, "GET", path, {"Origin": HERE}, None))
        assert call(gateway.url, "GET", path, {"Origin": ELSEWHERE}, None).status == 403


def test_a_page_of_elsewhere_makes_no_cloud_answer(gateway: Server, own_store: redis.Redis) -> None:
    with cloud_server() as cloud:
        sealed = engine_secrets.seal({"key": KEY})
        sky = {"kind": "openai", "name": "sky", "url": cloud.url, "priority": 50, "sealed": sealed}
        assert gateways.hand_over_engines(own_store, sky) == "ok"
        gateways.wait_until_up(own_store, "sky")
        for fields in ({"stream": True}, {"stream": False}):
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], **fields}
            for path in ("/api/chat", "/v1/chat/completions"):
                assert readable(call(gateway.url, "POST", path, {"Origin": HERE}, body))
                n_asked = len(cloud.requests)
                assert call(gateway.url, "POST", path, {"Origin": ELSEWHERE}, body).status == 403
                assert len(cloud.requests) == n_asked
        gateways.hand_over_fallback(own_store, "broom", "sky", "gpt-4o-mini")
        as_fallback = {**body, "model": "broom"}
        assert readable(call(gateway.url, "POST", "/api/chat", {"Origin": HERE}, as_fallback))
        n_asked = len(cloud.requests)
        refused = call(gateway.url, "POST", "/api/chat", {"Origin": ELSEWHERE}, as_fallback)
        assert (refused.status, refused.headers["x-aicleaner-engine"]) == (403, "embedded")
        assert len(cloud.requests) == n_asked
        told = json.loads(call(gateway.url, "POST", "/api/chat", {}, body).body)
        assert told["message"]["content"] == "Mop the floor."
