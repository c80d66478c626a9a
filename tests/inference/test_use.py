"""The use of models is added up as requests are stored, and read without them."""

import json
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
import redis
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference.catalogue.selectors import clients_of, use_of
from inference.gateway.records import STREAM
from inference.models import InferenceRequest, ModelUse
from inference.services import delete_request_records, store_request_records
from tests.inference.logged import a_record

pytestmark = pytest.mark.django_db
KEY = ("ollama", "llama:latest")


def add(client: "redis.Redis", *records: dict[str, Any]) -> None:
    for each in records:
        client.xadd(STREAM, {"r": json.dumps(each)})
    store_request_records(client)


def sums() -> list[tuple[Any, ...]]:
    names = (
        "hour",
        "engine_kind",
        "model",
        "client",
        "n_requests",
        "n_failed",
        "prompt_tokens",
        "output_tokens",
    )
    return list(ModelUse.objects.order_by(*names).values_list(*names, "last_at"))


def many() -> list[dict[str, Any]]:
    """Over ten days, of two models and two clients, one request an hour; each seventh fails, each fifth tells no counts."""
    now = timezone.now().timestamp()
    return [
        {
            **a_record(
                number,
                model=f"llama{'' if number % 3 else ':latest'}",
                client=f"client-{number % 2}",
                error="broke" if number % 7 == 0 else "",
                prompt_tokens=None if number % 5 == 0 else 100,
                done_reason="load" if number % 11 == 0 else "stop",
            ),
            "at": now - number * 3600,
        }
        for number in range(240)
    ]


def test_it_is_counted_once_however_the_records_come(own_store: redis.Redis) -> None:
    records = many()
    for start in range(0, 240, 60):
        add(own_store, *records[start : start + 60])
    counted = sums()
    add(own_store, *records[:30])  # read twice, as after a killed worker
    assert sums() == counted
    assert sum(each[4] for each in counted) == InferenceRequest.objects.exclude(done_reason="load").count()
    ModelUse.objects.all().delete()
    import_module("inference.migrations.0012_use_of_models").count_earlier(apps, None)
    assert sums() == counted


def test_the_use_of_a_week_reads_no_request(own_store: redis.Redis) -> None:
    add(own_store, *many())
    now = timezone.now()
    with CaptureQueriesContext(connection) as captured:
        use = use_of([KEY, ("ollama", "other:latest")], now)
        clients = clients_of(KEY, now)
    assert not [each["sql"] for each in captured if InferenceRequest._meta.db_table in each["sql"]]
    week = [
        each for each in many() if now.timestamp() - each["at"] < 7 * 86400 and each["done_reason"] == "stop"
    ]
    assert abs(use[KEY].n_requests - len(week)) <= 1  # in whole hours
    assert use[KEY].n_clients == 2
    assert use["ollama", "other:latest"].last_at is None
    assert sum(each["n"] for each in clients) == use[KEY].n_requests
    assert {each["client"] for each in clients} == {"client-0", "client-1"}


def test_a_model_that_was_used_before_the_week_tells_when(own_store: redis.Redis) -> None:
    at = timezone.now() - timedelta(days=12)
    add(own_store, {**a_record(1), "at": at.timestamp()})
    use = use_of([KEY], timezone.now())[KEY]
    assert use.n_requests == 0
    assert use.last_at is not None
    assert abs(use.last_at - at) < timedelta(seconds=1)


def test_it_goes_with_the_requests(own_store: redis.Redis) -> None:
    old = {**a_record(2), "at": (timezone.now() - timedelta(days=40)).timestamp()}
    add(own_store, a_record(1), old)
    assert len(sums()) == 2
    assert delete_request_records(now=timezone.now(), keep_days=30) == 1
    assert len(sums()) == 1
