"""A request that names its engine: that one answers, for the model of that very name, or nobody does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.utils import timezone

from aicleaner_site.valkey import ValkeyServer
from inference.catalogue import services
from inference.catalogue.memory import memory_state
from inference.engines.selectors import EngineAddress
from tests.inference import gateways
from tests.inference.model_pages import A, B, loaded
from tests.inference.old_ollama import OldOllama, old_ollama
from tests.inference.serving import Server
from tests.inference.stand_in import StandIn
from tests.inference.test_transcripts import Answer, call
from tests.product import wait_for

SAMPLE = "aicleaner-sample:latest"


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with gateways.start(engine, own_valkey) as server:
        yield server


@pytest.fixture
def shed(gateway: Server, own_store: redis.Redis) -> Iterator[OldOllama]:
    """It has the sample model too, and comes first."""
    with old_ollama("broom", SAMPLE) as server:
        added = {"kind": "ollama", "name": "shed", "url": server.url, "priority": 5}
        assert gateways.hand_over_engines(own_store, added) == "ok"
        gateways.wait_until_up(own_store, "shed")
        yield server


def ask(server: Server, engine: str, **more: Any) -> Answer:
    return gateways.generate(server, {"x-aicleaner-engine": engine}, options={"num_predict": 2}, **more)


@pytest.mark.usefixtures("shed")
def test_the_engine_that_is_named_answers(gateway: Server, own_store: redis.Redis) -> None:
    assert gateways.generate(gateway).headers["x-aicleaner-engine"] == "shed"
    asked = ask(gateway, "embedded")
    assert (asked.status, asked.headers["x-aicleaner-engine"]) == (200, "embedded")
    assert asked.headers["x-aicleaner-route"] == "local: as asked"
    assert gateways.record_of(own_store, asked)["route"] == "local: as asked"
    of_shed = call(gateway.url, "GET", "/api/tags", {"x-aicleaner-engine": "shed"}, None)
    assert [each["name"] for each in json.loads(of_shed.body)["models"]] == ["broom", SAMPLE]


def test_no_other_engine_answers_in_its_place(
    gateway: Server, shed: OldOllama, own_store: redis.Redis
) -> None:
    shed.shutdown()
    shed.server_close()
    answer = ask(gateway, "shed")
    assert answer.status == 502
    assert answer.headers["x-aicleaner-engine"] == "shed"
    gateways.wait_until_up(own_store, "shed", up=False)
    assert gateways.generate(gateway, options={"num_predict": 2}).headers["x-aicleaner-engine"] == "embedded"


def test_an_engine_that_is_not_there_is_refused_with_those_that_are(gateway: Server) -> None:
    answer = ask(gateway, "attic")
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == (
        "x-aicleaner-engine: there is no engine 'attic' in use; there is embedded"
    )
    assert call(gateway.url, "GET", "/api/tags", {"x-aicleaner-engine": "attic"}, None).status == 400


def test_a_name_stands_for_itself_there(gateway: Server, own_store: redis.Redis) -> None:
    gateways.wait_until_listed(gateway)
    gateways.hand_over_aliases(own_store, **{SAMPLE: A})
    assert gateways.generate(gateway).headers["x-aicleaner-model"] == A
    assert "x-aicleaner-model" not in ask(gateway, "embedded").headers


@pytest.mark.django_db(transaction=True)
def test_a_person_loads_and_keeps_the_very_model_with_the_profile_s_options(
    engine: Server, ollama: StandIn, embedded: EngineAddress, own_valkey: ValkeyServer, own_store: Any, settings: Any
) -> None:  # fmt: skip
    """It is not of the engine in use, and another model answers for its name."""
    settings.VALKEY_URL = own_valkey.url
    profile = {"name": "small", "options": {"num_ctx": 768}}
    with gateways.start(engine, own_valkey, "--engine", f"ollama={ollama.url}") as gateway:
        settings.GATEWAY_URL = gateway.url
        wait_for(lambda: memory_state().in_use == ollama.url, "the gateway has looked")
        gateways.hand_over(own_store, profile)
        gateways.hand_over_aliases(own_store, **{A: B})
        services.load(services.ask_to_load(embedded, A, who="anna", now=timezone.now()), embedded)
        assert loaded(embedded, A)["context_length"] == 768
        assert loaded(embedded, B) is None
        services.keep_model(embedded, A, 7200, "2 hours", who="anna", now=timezone.now())
        assert loaded(embedded, A)["context_length"] == 768
        assert loaded(embedded, B) is None
        services.unload_model(embedded, A, who="anna", now=timezone.now())


@pytest.mark.django_db(transaction=True)
def test_a_copy_is_answered_at_once_by_the_engine_that_has_it(
    engine: Server, ollama: StandIn, embedded: EngineAddress, own_valkey: ValkeyServer, settings: Any
) -> None:
    """The gateway asks for models every ten seconds only, and another engine comes first."""
    settings.VALKEY_URL = own_valkey.url
    person: dict[str, Any] = {"who": "anna", "now": timezone.now()}
    with gateways.start(engine, own_valkey, "--engine", f"ollama={ollama.url}") as gateway:
        settings.GATEWAY_URL = gateway.url
        wait_for(lambda: memory_state().in_use == ollama.url, "the gateway has looked")
        services.copy_model(embedded, A, "copied:now", **person)
        try:
            wait_for(
                lambda: gateways.generate(gateway, model="copied:now").status == 200, "the copy answers", 5
            )
        finally:
            services.delete_model(embedded, "copied:now", **person)
