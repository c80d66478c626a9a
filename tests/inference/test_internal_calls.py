"""The product's own way into a gateway that wants a key of everybody: each of its calls goes on working."""

import ast
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from aicleaner_site.valkey import ValkeyServer
from benchmarks.engines import engine_models, engine_version, find_engine
from benchmarks.parameters import Parameters
from benchmarks.plans import plan_of
from inference.catalogue import services
from inference.catalogue.engine import EngineApi
from inference.engines.selectors import EngineAddress
from inference.gateway.kept import STATE_KEY
from inference.request_log.memory import model_info
from tests.inference.gateways import generate, wait_until_told
from tests.inference.serving import Server
from tests.inference.test_request_log import collect
from tests.inference.test_transcripts import call
from tests.product import BASE_DIR, wait_for

MODEL = "aicleaner-sample:latest"


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer, settings: Any) -> Iterator[Server]:
    arguments = ("--valkey", own_valkey.url, "--engine", f"embedded={engine.url}", "--require-key", "always")
    with Server("inference.gateway", *arguments, ready="/api/version") as server:
        settings.GATEWAY_URL, settings.VALKEY_URL = server.url, own_valkey.url
        settings.ENGINES = [{"kind": "embedded", "url": engine.url}]
        assert generate(server).status == 401
        assert call(server.url, "GET", "/api/tags", {}, None).status == 401
        yield server


@pytest.mark.django_db
def test_the_box_for_prompts(gateway: Server, person: Client) -> None:
    assert MODEL in person.get(reverse("prompt-models")).json()["models"]
    lines = collect(person.post(reverse("prompt"), {"model": MODEL, "prompt": "Room: kitchen."})).splitlines()
    assert json.loads(lines[0])["via"]["x-aicleaner-engine"] == "embedded"
    assert json.loads(lines[-1])["done"]


async def test_the_memory_of_a_context(gateway: Server) -> None:
    assert "general.architecture" in await model_info(MODEL)


@pytest.mark.django_db(transaction=True)
def test_loading_a_model_through_the_gateway(gateway: Server, engine: Server, own_store: Any) -> None:
    wait_for(lambda: own_store.get(STATE_KEY), "the gateway says which engine is in use")
    address = EngineAddress("embedded", engine.url, "embedded")
    assert services._way() == gateway.url
    event = services.ask_to_load(address, MODEL, who="anna", now=timezone.now())
    services.load(event, address)
    event.refresh_from_db()
    assert event.state == "done", event.result
    with EngineApi(address) as api:
        assert api.find_loaded(MODEL)
    wait_until_told(own_store, "requests_total", 1)  # it came through the gateway


def test_benchmarks(gateway: Server) -> None:
    found = find_engine("gateway")
    assert MODEL in [each.name for each in engine_models(found)]
    assert engine_version(found)[0] == "embedded"
    plan = plan_of(Parameters(models=[MODEL]), found, MODEL, 0)
    assert json.loads(plan.for_process())["api_key"] == found.key
    assert found.key not in repr(found) + repr(plan) + plan.public().model_dump_json()


def test_no_call_to_the_gateway_is_forgotten() -> None:
    """Each place that names its address brings the key, or shows it to a person."""
    shows = {"aicleaner_site/settings.py", "aicleaner_site/views.py", "inference/api_keys/views.py"}
    goes_by_engine_api = {
        "inference/catalogue/services.py"
    }  # which brings the key wherever it has an address of its own
    for file in sorted(BASE_DIR.glob("*/**/*.py")):
        name = str(file.relative_to(BASE_DIR))
        if name.startswith(("tests/", ".venv/", "var/")):
            continue
        tree = ast.parse(file.read_text())
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if "GATEWAY_URL" in attributes and name not in shows | goes_by_engine_api:
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert names & {"gateway_headers", "gateway_key"}, f"{name} asks the gateway without a key"
