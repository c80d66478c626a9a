"""The shipped profiles in the database, a gateway that takes them, a person who changes them."""

from collections.abc import Iterator
from importlib import import_module

import pytest
import redis
from django.apps import apps
from django.contrib.auth.models import User

from inference.gateway.pushed import PROFILES
from tests.inference.serving import Server
from tuning.models import Profile


@pytest.fixture(autouse=True)
def shipped(request: pytest.FixtureRequest) -> None:
    """What the migration made, which an earlier test with transactions of its own has emptied."""
    if "transactional_db" not in request.fixturenames and not request.node.get_closest_marker("django_db"):
        return
    request.getfixturevalue("transactional_db")
    if not Profile.objects.exists():
        import_module("tuning.migrations.0002_shipped_profiles").create(apps, None)


@pytest.fixture
def store(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.from_url(valkey_url) as client:
        client.delete(PROFILES.key)
        yield client
        client.delete(PROFILES.key)


@pytest.fixture
def gateway(store: redis.Redis, valkey_url: str) -> Iterator[Server]:
    """Without an engine: its answers still say which profile they were under."""
    with Server(
        "inference.gateway", "--valkey", valkey_url, "--engine", "ollama=http://127.0.0.1:1"
    ) as server:
        yield server


@pytest.fixture
def admin(transactional_db: None) -> User:
    return User.objects.create_superuser("ann", "", "only-for-tests")


@pytest.fixture
def guest(transactional_db: None) -> User:
    """May look, may change nothing."""
    return User.objects.create_user("bob", "", "only-for-tests")
