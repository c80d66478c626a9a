"""What every test stands on; the data folder of the run is laid by tests/settings.py."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import redis
from django.conf import settings

from aicleaner_site.valkey import ValkeyServer
from inference.distillation import needs

# How long an example takes is a matter of what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(settings.VALKEY_SOCKET) as server:
        yield server


@pytest.fixture(scope="module")
def valkey_url(valkey_server: ValkeyServer) -> str:
    """A real Valkey server on the socket that the settings name: what the tested code connects to by itself.

    Empty for each file: a profile, an engine or a key that the console pushed in another file would act here too."""
    with redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the database, for the second run on PostgreSQL; leave out what this machine lacks; browser tests go last.

    Playwright's event loop runs in this thread from its first use on, and no asynchronous test can start beside it."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    why = needs.missing()
    for item in items:
        if why and item.get_closest_marker("pytorch") is not None:
            item.add_marker(
                pytest.mark.skip(reason="no PyTorch here: .venv/bin/uv pip install -r requirements-train.txt")
            )
        names = getattr(item, "fixturenames", ())
        if "db" in names or "transactional_db" in names or item.get_closest_marker("django_db"):
            item.add_marker("database")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say at the end what a machine without Chromium or PyTorch did not try."""
    skipped = [str(each.longrepr) for each in terminalreporter.stats.get("skipped", [])]
    if n := sum("no Chromium" in each for each in skipped):
        terminalreporter.write_line(
            f"Left out: {n} browser tests, because this machine has no Chromium."
            " On Debian or Ubuntu: sudo apt install chromium, then make test again."
        )
    if n := sum("no PyTorch" in each for each in skipped):
        terminalreporter.write_line(
            f"Left out: {n} tests of training, because PyTorch is not installed."
            " .venv/bin/uv pip install -r requirements-train.txt, then make test again."
        )
