"""What a run against a cloud cost, by the list price of its model."""

import json
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from benchmarks.engines import find_engine
from benchmarks.errors import EngineError
from benchmarks.load.result import Result, Status
from benchmarks.models import Measurement, Run, State
from benchmarks.prices import charge_of, price_of
from benchmarks.statistics.summary import summarise
from inference.models import CloudMonth, Engine, EngineKind
from safeguards.sealing import engine_secrets
from tests.benchmarks.conftest import MODEL
from tests.benchmarks.results import failed, result, row
from tests.benchmarks.test_execution import run_it
from tests.inference.cloud_server import KEY, cloud_server

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(make_run: Callable[..., Run], user: User) -> Run:
    Engine.objects.create(
        name="house-cloud",
        kind=EngineKind.OPENAI,
        url="https://127.0.0.1:1/v1",
        prices="openai",
        changed_at=timezone.now(),
    )
    return make_run(user, engine="house-cloud", models=("gpt-4o-mini",))


def measured(**changes: Any) -> Result:
    rows = [row(0, n_prompt=1000, gaps_ms=[10.0] * 499), row(6000, measured=False, n_prompt=9, **changes)]
    return result([*rows, failed(9000, Status.HTTP)])


def test_prompts_and_answers_are_paid_for(run: Run) -> None:
    found = price_of(run, "gpt-4o-mini", [measured(), measured()])
    assert found is not None
    # 1,000 tokens at 0.15 and 500 at 0.60 dollars a million, for 500 tokens of answers
    assert found.price_per_mtok == pytest.approx((1000 * 0.15 + 500 * 0.60) / 500)
    summary = summarise(measured(), energy=found)
    assert summary.values["cost_per_mtok"].value == found.price_per_mtok
    assert summary.values["joules_per_token"].value is None


def test_a_price_that_nobody_knows_is_said(run: Run) -> None:
    for model, results in (
        ("no-such-model", [measured()]),
        ("gpt-4o-mini", [result([row(0, n_prompt=None)])]),
    ):
        found = price_of(run, model, results)
        assert found is not None
        reason = summarise(results[0], energy=found).values["cost_per_mtok"].reason
        assert reason is not None
        assert "Nobody knows what this cloud asks" in reason


def test_an_engine_here_has_no_list_price(make_run: Callable[..., Run]) -> None:
    assert price_of(make_run(), MODEL, [measured()]) is None
    assert charge_of(make_run(), MODEL, measured()) is None


@pytest.fixture
def sky() -> Iterator[Engine]:
    with cloud_server() as server:
        yield Engine.objects.create(
            name="sky",
            kind=EngineKind.OPENAI,
            url=server.url,
            sealed=engine_secrets.seal({"key": KEY}),
            prices="openai",
            changed_at=timezone.now(),
        )


@pytest.mark.usefixtures("engines", "valkey_url")
def test_a_run_counts_for_the_month_of_its_cloud_and_ends_with_the_budget(
    sky: Engine, make_run: Callable[..., Run], staff: User
) -> None:
    """Each answer of the server costs 0.00045 USD, those of the warm-up too."""
    first = run_it(make_run(staff, engine="sky", models=("gpt-4o-mini",), n_rounds=1))
    assert (first.state, first.reason) == (State.DONE, "")
    month = CloudMonth.objects.get(engine="sky")
    rows = Result.model_validate(json.loads(zlib.decompress(Measurement.objects.get().raw))).requests
    assert month.n_requests == rows.http_status.count(200) > 3
    assert month.n_unpriced == 0
    assert month.cost_usd == month.n_requests * Decimal("0.00045")
    sky.budget_usd = Decimal("0.01")  # as much as two more rounds make
    sky.save()
    CloudMonth.objects.update(cost_usd=Decimal("0.0099"))
    second = run_it(make_run(staff, engine="sky", models=("gpt-4o-mini",), n_rounds=3))
    assert second.state == State.FAILED
    assert second.reason.startswith("The budget of sky for 20")
    assert second.measurements.count() == 1
    third = run_it(make_run(staff, engine="sky", models=("gpt-4o-mini",)))
    assert third.reason == second.reason
    with pytest.raises(EngineError, match=r"is used up \(0\.01 of 0\.01 USD\)"):
        find_engine("sky")
