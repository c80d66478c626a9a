"""What clouds cost: reckoned as records are stored, counted once, kept by month."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from inference.engines import selectors
from inference.engines.costs import cost_of
from inference.gateway.engines import Engine as GatewayEngine
from inference.gateway.records import STREAM
from inference.models import CloudMonth, Engine, InferenceRequest
from inference.services import delete_request_records, store_request_records
from tests.inference.logged import a_record
from tests.inference.test_request_log import collect

pytestmark = pytest.mark.django_db


@pytest.fixture
def sky() -> Engine:
    return Engine.objects.create(
        name="sky", kind="openai", url="https://api.openai.com/v1", changed_at=timezone.now(), budget_usd=5
    )


def cost(engine: Engine, model: str = "gpt-4o-mini", cached: int = 0) -> Decimal | None:
    return cost_of(
        engine,
        model,
        prompt_tokens=1_000_000,
        output_tokens=1_000_000,
        cached_tokens=cached,
        at=datetime.now(UTC),
    )


def test_prices_are_those_of_the_address_or_of_whom_a_person_named(sky: Engine) -> None:
    assert cost(sky) == Decimal("0.75")  # 0.15 in, 0.60 out, by the million
    cheaper = cost(sky, cached=1_000_000)
    assert cheaper is not None
    assert cheaper < Decimal("0.75")
    assert cost(sky, model="no-such-model") is None
    sky.url = "http://127.0.0.1:9/v1"
    assert cost(sky) is None
    sky.prices = "openai"
    assert cost(sky) == Decimal("0.75")


def store(client: "redis.Redis", *records: dict[str, Any]) -> None:
    for each in records:
        client.xadd(STREAM, {"r": json.dumps(each)})
    store_request_records(client)


def of_sky(number: int, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        **a_record(number), "engine_kind": "sky", "model": "gpt-4o-mini", "alias": "llava", "route": "fallback: engine down",
        "prompt_tokens": 1_000_000, "output_tokens": 1_000_000, **changes,
    }  # fmt: skip
    return found


def test_a_request_costs_once_and_counts_for_its_month(
    sky: Engine, own_store: redis.Redis, person: Client
) -> None:
    local = {**a_record(1), "route": "local"}
    store(own_store, of_sky(2), of_sky(3, output_tokens=None), of_sky(4, status=502, error="oops"), local)
    store(own_store, of_sky(2))  # read twice, as after a killed worker
    costs = dict(InferenceRequest.objects.values_list("request_id", "cost_usd"))
    assert costs[of_sky(2)["request_id"]] == Decimal("0.75")
    assert costs[of_sky(3)["request_id"]] is None
    assert costs[local["request_id"]] is None
    month = CloudMonth.objects.get()
    assert (month.engine, month.n_requests, month.n_unpriced) == ("sky", 2, 1)
    assert month.cost_usd == Decimal("0.75")
    (told,) = selectors.gateway_state()["engines"]
    assert (told["spent_usd"], told["budget_usd"]) == (0.75, 5.0)
    page = person.get("/requests/?range=all").content.decode()
    assert "sky $0.75 for 2 requests (1 of unknown cost)" in page
    assert "sky, fallback: engine down, $0.75" in page
    row = person.get(f"/requests/{of_sky(2)['request_id']}/").content.decode()
    assert "asked for as llava" in row
    assert "$0.75" in row
    exported = collect(person.get("/requests/export.json?range=all"))
    assert '"cost_usd": 0.75' in exported


def test_the_sum_outlives_the_requests(sky: Engine, own_store: redis.Redis) -> None:
    store(own_store, of_sky(1))
    delete_request_records(now=timezone.now() + timedelta(days=400), keep_days=30)
    assert not InferenceRequest.objects.exists()
    assert CloudMonth.objects.get().cost_usd == Decimal("0.75")


def test_a_month_ends_in_utc() -> None:
    late = datetime.fromisoformat("2026-02-28T23:30:00-05:00")
    assert selectors.month_of(late) == date(2026, 3, 1)


@pytest.mark.parametrize(
    ("spent", "month", "budget", "over"),
    [
        (4.99, "2026-11", 5.0, False),
        (5.0, "2026-11", 5.0, True),
        (9.0, "2026-10", 5.0, False),
        (9.0, "2026-11", None, False),
        (0.0, "2026-11", 0.0, True),
    ],
)
def test_a_budget_is_used_up_within_its_month(
    spent: float, month: str, budget: float | None, over: bool
) -> None:
    engine = GatewayEngine(
        "openai", "http://x", name="sky", added=True, spent_usd=spent, month=month, budget_usd=budget
    )
    now = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
    assert engine.budget_is_used_up(now) is over
    assert time.gmtime(now).tm_mon == 11
