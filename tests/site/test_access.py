"""Nobody sees a page without a login; `/metrics` and `/healthz` are as the contracts say."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

pytestmark = pytest.mark.django_db
OPEN = {"favicon.ico", "login/", "login/once/<str:token>/", "logout/", "healthz", "metrics"}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in resolver.url_patterns:
        route = prefix + str(each.pattern)
        if isinstance(each, URLPattern):
            yield route, each
        else:
            yield from patterns(each, route)


def test_every_page_that_is_not_meant_to_be_open_asks_for_a_login(client: Client) -> None:
    routes = [
        route
        for route, _ in patterns(get_resolver())
        if "<" not in route and "(" not in route and route not in OPEN
    ]
    assert len(routes) > 5
    for route in routes:
        answer = client.get(f"/{route}")
        # POST-only pages answer 405 to an anonymous GET only after the login check: they must redirect as well.
        if route.startswith("admin/login"):
            continue
        assert answer.status_code in (301, 302), f"/{route} answered {answer.status_code} without a login"
        assert "login" in answer["Location"] or answer.status_code == 301, route


def test_no_page_about_one_thing_is_open_either() -> None:
    """Those whose address has a name or a number in it: the middleware asks each for a login that does not refuse it."""
    found = {
        route
        for route, each in patterns(get_resolver())
        if not getattr(each.callback, "login_required", True)
    }
    assert found == OPEN - {"logout/"} | {"admin/login/"}


@pytest.fixture
def sample(valkey_url: str) -> Iterator[dict[str, Any]]:
    """A last sample, as the collector writes it."""
    values = {
        "cpu_percent": 12.5,
        "disk_used_percent{mount=/}": 40.0,
        "disk_used_percent{mount=/a b}": 1.0,
        "load1": None,
    }
    sample = {"type": "sample", "at": time.time(), "host": "box", "v": values, "state": {}, "events": []}
    with redis.from_url(valkey_url) as valkey:
        valkey.set("aicleaner:live:last", json.dumps(sample))
        yield sample
        valkey.delete("aicleaner:live:last")


def test_metrics_are_prometheus_text_without_the_unknown(client: Client, sample: dict[str, Any]) -> None:
    answer = client.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.content.decode())}
    assert answer.status_code == 200
    assert families["aicleaner_cpu_ratio"].samples[0].value == 0.125
    mounts = {s.labels["mount"]: s.value for s in families["aicleaner_disk_used_ratio"].samples}
    assert mounts == {"/": 0.4, "/a b": 0.01}
    assert "aicleaner_load1" not in families


def test_metrics_of_a_silent_collector_are_an_error_and_not_old_values(
    client: Client, valkey_url: str
) -> None:
    assert client.get("/metrics").status_code == 503


@pytest.mark.parametrize(
    ("headers", "address", "status"),
    [
        ({}, "127.0.0.1", 200),
        ({}, "::1", 200),
        ({}, "10.0.0.9", 401),
        ({"X-Forwarded-For": "10.0.0.9"}, "127.0.0.1", 401),
        ({"Authorization": "Bearer secret-token"}, "10.0.0.9", 200),
        ({"Authorization": "Bearer wrong"}, "10.0.0.9", 401),
        ({"Authorization": "Bearer wrong"}, "127.0.0.1", 401),
        ({"Authorization": "Bearer "}, "10.0.0.9", 401),
    ],
)
def test_metrics_need_the_token_or_this_machine(
    client: Client,
    sample: dict[str, Any],
    settings: Settings,
    headers: dict[str, str],
    address: str,
    status: int,
) -> None:
    settings.METRICS_TOKEN = "secret-token"
    assert client.get("/metrics", headers=headers, REMOTE_ADDR=address).status_code == status


def test_health_names_each_part_and_is_503_while_one_is_missing(
    client: Client, sample: dict[str, Any]
) -> None:
    answer = client.get("/healthz")
    parts = answer.json()["parts"]
    assert answer.status_code == 503
    assert set(parts) == {"database", "valkey", "collector", "gateway", "engine", "worker", "beat"}
    assert parts["collector"]["ok"]
    assert parts["gateway"] == {"ok": False, "detail": "no sign of life"}


def test_health_without_valkey_answers_at_once(client: Client, settings: Settings) -> None:
    settings.VALKEY_URL = "unix:///nowhere/valkey.sock"
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["database"]["ok"]
    assert not answer.json()["parts"]["valkey"]["ok"]
