"""What a run against a cloud cost, by the list price of its model."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from benchmarks.load.result import Result, Status
from benchmarks.models import Run
from benchmarks.prices import price_of
from benchmarks.statistics.summary import summarise
from inference.models import Engine, EngineKind
from tests.benchmarks.conftest import MODEL
from tests.benchmarks.results import failed, result, row

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
