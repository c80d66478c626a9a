"""The real engine with the sample model, the real gateway before it, and runs on the settings of the tests."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User

from benchmarks import services
from benchmarks.models import Run
from benchmarks.parameters import Parameters
from inference.sample_model.evaluate import FILE as SAMPLE
from tests.inference.serving import Server

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
MODEL = "aicleaner-sample:latest"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    seeds = [word for name in ("aicleaner-sample", "twin") for word in ("--seed-model", f"{name}={SAMPLE}")]
    with Server("inference.engine", "--models", str(models), "--max-loaded", "2", *seeds) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(engine: Server, valkey_url: str) -> Iterator[Server]:
    arguments = ("--valkey", valkey_url, "--engine", f"embedded={engine.url}")
    with Server("inference.gateway", *arguments) as server:
        yield server
    with redis.from_url(valkey_url) as valkey:  # later tests must not take it for running
        valkey.delete("aicleaner:gateway:stats", "aicleaner:gateway:records")


@pytest.fixture
def engines(engine: Server, gateway: Server, settings: Any) -> None:
    """The settings point to the running engine and gateway; no Ollama answers."""
    settings.GATEWAY_URL = gateway.url
    settings.ENGINES = [
        {"kind": "ollama", "url": "http://127.0.0.1:1"},
        {"kind": "embedded", "url": engine.url},
    ]


@pytest.fixture
def user() -> User:
    return User.objects.create(username="mia")


@pytest.fixture
def staff() -> User:
    return User.objects.create(username="boss", is_staff=True, is_superuser=True)


def small(**changes: Any) -> Parameters:
    """A run that takes a second or two."""
    values: dict[str, Any] = {
        "engine": "embedded",
        "models": (MODEL,),
        "workload": "task_generation",
        "n_rounds": 2,
        "n_requests": 3,
        "num_predict": 8,
        "temperature": 0,
    }
    return Parameters.model_validate({**values, **changes})


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A queued run; keyword arguments change its parameters."""

    def make(user: User | None = None, now: datetime = NOW, **changes: Any) -> Run:
        who = user.username if user else "somebody"
        return services.create_run(small(**changes), host=settings.HOST_NAME, who=who, user=user, now=now)

    return make
