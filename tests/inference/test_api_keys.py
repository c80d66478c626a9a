"""API keys in the console: what is kept, counted and pushed; the command."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import redis
from django.core import serializers
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from aicleaner_site.valkey import ValkeyServer
from inference import tasks
from inference.api_keys import selectors, services
from inference.gateway.pushed import API_KEYS
from inference.models import ApiKey, ApiKeyMonth, InferenceRequest
from inference.pushing import Delivery
from inference.services import STREAM, delete_request_records, store_request_records
from tests.inference.gateways import generate, records
from tests.inference.serving import Server
from tests.inference.test_gateway_keys import ask, plain
from tests.inference.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def store(own_valkey: ValkeyServer, settings: Any) -> Iterator[redis.Redis]:
    settings.VALKEY_URL = own_valkey.url
    with redis.from_url(own_valkey.url) as client:
        yield client


@pytest.fixture
def gateway(store: redis.Redis, settings: Any) -> Iterator[Server]:
    with Upstream(plain) as upstream:
        arguments = ("--valkey", settings.VALKEY_URL, "--engine", f"ollama={upstream.url}")
        with Server("inference.gateway", *arguments, ready="/api/version") as server:
            yield server


def make(name: str = "home", **limits: Any) -> tuple[ApiKey, str]:
    key = ApiKey(name=name, **limits)
    return key, services.create_key(key, who="boss", user=None, now=NOW)


def record(key: ApiKey, request_id: str, at: datetime = NOW, **values: Any) -> dict[str, Any]:
    """As the gateway tells it."""
    texts = "model alias client client_ip error done_reason engine engine_kind"
    unknown = "ttft_ms load_ms prompt_eval_ms eval_ms queue_ms cache_distance profile prompt_bytes"
    return {
        **dict.fromkeys(texts.split(), ""),
        **dict.fromkeys(unknown.split()),
        "request_id": request_id,
        "at": at.timestamp(),
        "path": "/api/generate",
        "api": "ollama",
        "kind": "generate",
        "stream": False,
        "status": 200,
        "total_ms": 5.0,
        "prompt_tokens": 40,
        "output_tokens": 3,
        "request_bytes": 10,
        "response_bytes": 10,
        "cache": "miss",
        "api_key": key.name,
        "api_key_id": key.pk,
        "api_key_tokens": 43,
        **values,
    }


def hand_in(store: redis.Redis, *found: dict[str, Any]) -> None:
    for each in found:
        store.xadd(STREAM, {"r": json.dumps(each)})
    store_request_records(store)


def test_the_database_and_what_is_pushed_hold_no_token(store: redis.Redis) -> None:
    key, token = make()
    assert token.startswith("aic-")
    assert key.prefix == token[:12]
    said = json.dumps(selectors.gateway_state())
    rows = serializers.serialize("json", ApiKey.objects.all())
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM inference_apikey")
        raw = repr(cursor.fetchall())
    for place in (said, rows, raw, repr(key), str(key)):
        assert token not in place
        assert token[12:] not in place


def test_uses_are_counted_once_by_month_and_outlive_the_records(store: redis.Redis) -> None:
    key, _ = make(tokens_per_month=1000)
    other, _ = make("other")
    first = [
        record(key, "a" * 32),
        record(key, "b" * 32, status=500, error="broken", api_key_tokens=0),
        record(key, "c" * 32, at=NOW - timedelta(days=30)),
        record(key, "d" * 32, cost_usd=0.25),
        record(other, "e" * 32),
    ]
    hand_in(store, *first)
    hand_in(store, first[0], first[3], record(key, "f" * 32))  # a killed worker reads again
    month = ApiKeyMonth.objects.get(key=key, month="2026-11")
    assert (month.n_requests, month.n_errors, month.n_tokens) == (4, 1, 3 * 43)
    assert (month.cost_usd, month.n_costed) == (0.25, 1)
    assert ApiKeyMonth.objects.get(key=key, month="2026-10").n_tokens == 43
    key.refresh_from_db()
    assert key.last_used_at == NOW
    assert InferenceRequest.objects.filter(api_key="home").count() == 5
    delete_request_records(now=NOW + timedelta(days=90), keep_days=1)
    assert selectors.row(key, NOW).month.n_tokens == 3 * 43
    assert selectors.row(key, NOW).budgets[0].share == pytest.approx(0.129)


def test_a_key_that_is_deleted_loses_no_record(store: redis.Redis) -> None:
    key, _ = make()
    waiting = record(key, "a" * 32)
    services.delete_key(key, who="boss")
    hand_in(store, waiting, {**waiting, "request_id": "b" * 32, "api_key_id": None})
    assert InferenceRequest.objects.filter(api_key="home").count() == 2
    assert not ApiKeyMonth.objects.exists()


def test_a_push_is_confirmed_and_each_change_counts_from_the_next_request_on(gateway: Server) -> None:
    said: list[Delivery] = []
    key = ApiKey(name="home")
    token = services.create_key(key, who="boss", user=None, now=timezone.now(), told=said.append)
    assert said[-1].ok
    assert ask(gateway, token).status == 200
    services.enable_key(key, False, who="boss", told=said.append)
    assert ask(gateway, token).status == 401
    services.enable_key(key, True, who="boss", told=said.append)
    fresh = services.rotate_key(key, who="boss", now=timezone.now(), told=said.append)
    assert ask(gateway, token).status == 401
    assert ask(gateway, fresh).status == 200
    key.allowed_models = ["other*"]
    services.change_key(key, who="boss", told=said.append)
    assert ask(gateway, fresh).status == 403
    services.delete_key(key, who="boss", told=said.append)
    assert ask(gateway, fresh).status == 401
    assert all(each.ok for each in said)
    assert len(said) == 6


def test_a_budget_of_money_ends_by_what_the_database_knows(gateway: Server, store: redis.Redis) -> None:
    key = ApiKey(name="home", usd_per_month="2.00")
    token = services.create_key(key, who="boss", user=None, now=timezone.now())
    assert ask(gateway, token).status == 200
    hand_in(store, record(key, "a" * 32, at=timezone.now(), cost_usd=2.5))
    tasks.keep_gateway_in_step()
    assert ask(gateway, token).status == 429
    assert not selectors.row(key, timezone.now() + timedelta(days=32)).budgets[0].is_used_up


def test_a_valkey_that_lost_its_state_gets_the_keys_again(gateway: Server, store: redis.Redis) -> None:
    make()
    store.delete(API_KEYS.key)
    tasks.keep_gateway_in_step()
    assert json.loads(store.get(API_KEYS.key) or b"")["keys"][0]["name"] == "home"


def test_what_went_through_the_gateway_is_counted_for_the_key(gateway: Server, store: redis.Redis) -> None:
    token = services.create_key(ApiKey(name="home"), who="boss", user=None, now=timezone.now())
    for _ in range(2):
        ask(gateway, token)
    generate(gateway)
    records(store, 3)
    store_request_records(store)
    row = selectors.rows(timezone.now())[0]
    assert (row.month.n_requests, row.month.n_tokens) == (2, 86)
    assert InferenceRequest.objects.filter(api_key="").count() == 1


# --- the command ------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("key", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_makes_lists_and_revokes(gateway: Server) -> None:
    made = json.loads(
        run(
            "create",
            "home",
            "--requests-per-minute",
            "5",
            "--model",
            "m",
            "--model",
            "q*",
            "--expires",
            "2099-01-31T18:30+01:00",
            "--json",
        )
    )
    assert ask(gateway, made["key"]).status == 200
    assert (made["requests_per_minute"], made["models"]) == (5, ["m", "q*"])
    assert made["expires_at"] == "2099-01-31T17:30:00+00:00"
    assert made["gateway"]["ok"]
    assert made["key"] not in run("list") + run("list", "--json")
    assert json.loads(run("list", "--json"))["keys"][0]["state"] == "in use"
    assert "disabled" in run("revoke", "home")
    assert ask(gateway, made["key"]).status == 401
    assert json.loads(run("revoke", "home", "--delete", "--json"))["done"] == "deleted"
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["create", ""], "name:"),
        (["create", "a", "--requests-per-minute", "0"], "requests_per_minute:"),
        (["create", "a", "--tokens-per-month", "x"], "tokens_per_month:"),
        (["create", "a", "--expires", "2001-01-01"], "expires: Give a time to come"),
        (["create", "a", "--expires", "soon"], "expires: Give date and time"),
        (["create", "a", "--frame-distance", "99"], "frame_distance:"),
        (["create", "taken"], "name:"),
        (["revoke", "b"], "There is: taken"),
    ],
)
def test_the_command_names_the_field_and_what_would_do(
    store: redis.Redis, arguments: list[str], text: str
) -> None:
    make("taken")
    with pytest.raises(CommandError, match=text):
        run(*arguments)


def test_without_a_gateway_the_exit_code_says_so(store: redis.Redis) -> None:
    with pytest.raises(CommandError, match="no gateway runs") as error:
        run("create", "home")
    assert error.value.returncode == 3
    assert ApiKey.objects.count() == 1
