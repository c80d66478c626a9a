"""The real engine with the sample model and with models that say a script."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from aicleaner_site.valkey import ValkeyServer
from inference.catalogue.engine import EngineApi
from inference.engines.selectors import EngineAddress
from inference.gateway.kept import STATE_KEY
from inference.gateway.records import STATS_KEY
from inference.sample_model.evaluate import FILE as SAMPLE
from inference.work.engine import EngineClient
from tests.inference import chain_model
from tests.inference.serving import Server
from tests.inference.stand_in import StandIn, stand_in

SCRIPT = [
    word.encode()
    for word in ["The ", "kitchen ", "lamp ", "is ", "on, ", "the ", "door ", "was ", "left ", "open."]
]


@pytest.fixture(scope="session")
def chain_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("chains")
    tool = b'<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
    think = [b"<think>", b"first ", b"I ", b"check ", b"the ", b"lamp", b"</think>", b"It ", b"was ", b"on."]
    accent, words = "é".encode(), [f"word{number} ".encode() for number in range(50)]
    house = "🏠".encode()
    return {
        "tiny-script": chain_model.write_chain(folder / "script.gguf", SCRIPT),
        "tiny-repeat": chain_model.write_chain(folder / "repeat.gguf", [b"ha "], loop=True),
        "tiny-think": chain_model.write_chain(
            folder / "think.gguf", think, template=chain_model.THINK_TEMPLATE
        ),
        "tiny-tool": chain_model.write_chain(
            folder / "tool.gguf", [tool], template=chain_model.TOOL_TEMPLATE
        ),
        "tiny-utf8": chain_model.write_chain(
            folder / "utf8.gguf",
            [b"caf", accent[:1], accent[1:], b" ", house[:1], house[1:2], house[2:3], house[3:], b" ok"],
        ),
        "tiny-badutf8": chain_model.write_chain(folder / "badutf8.gguf", [b"abc", b"\xff", b"x"]),
        "tiny-long": chain_model.write_chain(folder / "long.gguf", words, loop=True),
        "tiny-bos": chain_model.write_chain(folder / "bos.gguf", SCRIPT, bos=True),
        "tiny-embed": chain_model.write_chain(folder / "embed.gguf", SCRIPT, embedding=True),
    }


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, chain_models: dict[str, Path]) -> Iterator[Server]:
    """A running engine that offers `aicleaner-sample`, `tiny-ref` (the same file) and the chain models."""
    seeds = {"aicleaner-sample": SAMPLE, "tiny-ref": SAMPLE, **chain_models}
    arguments = [word for name, path in seeds.items() for word in ("--seed-model", f"{name}={path}")]
    models = tmp_path_factory.mktemp("models")
    with Server(
        "inference.engine", "--models", str(models), "--max-loaded", "3", "--max-queue", "4", *arguments
    ) as server:
        yield server


@pytest.fixture(scope="session")
def empty_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("inference.engine", "--models", str(tmp_path_factory.mktemp("no-models"))) as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """One for this test alone: profiles of one must not reach the next."""
    folder = Path(tempfile.mkdtemp(prefix="aic-v-"))
    with ValkeyServer(folder / "v.sock") as server:
        yield server


@pytest.fixture
def own_store(own_valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.from_url(own_valkey.url) as client:
        yield client


@pytest.fixture
def no_gateway_before(valkey_url: str) -> None:
    """No gateway that ran a moment ago for another test is taken for running."""
    with redis.from_url(valkey_url) as valkey:
        valkey.delete(STATE_KEY, STATS_KEY)


@pytest.fixture
def embedded(engine: Server) -> EngineAddress:
    return EngineAddress("embedded", engine.url, "embedded")


@pytest.fixture
def engines(embedded: EngineAddress, settings: Any) -> None:
    settings.ENGINES = [
        {"kind": "ollama", "url": "http://127.0.0.1:1"},
        {"kind": "embedded", "url": embedded.url},
    ]
    with EngineApi(embedded) as api:
        for each in api.loaded():
            api.unload(each["name"])


@pytest.fixture
def ollama(engine: Server, settings: Any) -> Iterator[StandIn]:
    with stand_in() as server:
        settings.ENGINES = [{"kind": "ollama", "url": server.url}, {"kind": "embedded", "url": engine.url}]
        yield server


@pytest.fixture
def person(client: Client) -> Client:
    client.force_login(User.objects.create(username="anna"))
    return client


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="boss", is_staff=True))
    return client


@pytest.fixture
def client_of(engine: Server) -> Iterator[EngineClient]:
    client = EngineClient(engine.url, num_ctx=256)
    yield client
    client.close()
