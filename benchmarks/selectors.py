"""Questions about runs."""

import json
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from benchmarks.models import Measurement, Run, State
from inference.names import full_name

SUMMED_UP_WITHIN = timedelta(seconds=60)


def find_runs(*, state: str = "", kind: str = "", model: str = "") -> QuerySet[Run]:
    """Newest first; empty words filter nothing."""
    runs = Run.objects.defer("outcome", "fingerprint")
    if state:
        runs = runs.filter(state=state)
    if kind:
        runs = runs.filter(kind=kind)
    if model:
        runs = runs.filter(model_names__icontains=model)
    return runs


def is_summed_up_soon(run: Run, now: datetime) -> bool:
    """Whether whoever ended it just now works its figures out; later than that the page does it itself."""
    fresh = run.ended_at is not None and now - run.ended_at < SUMMED_UP_WITHIN
    return fresh and not run.outcome and run.measurements.exists()


def n_ahead(run: Run) -> int:
    """Runs that come before this queued one, the running one included."""
    waiting = Run.objects.filter(host=run.host, state=State.QUEUED, created_at__lt=run.created_at).count()
    return waiting + Run.objects.filter(host=run.host, state=State.RUNNING).count()


def is_waiting(host: str) -> bool:
    """Whether a run waits and nothing runs."""
    states = set(
        Run.objects.filter(host=host, state__in=(State.QUEUED, State.RUNNING)).values_list("state", flat=True)
    )
    return states == {State.QUEUED}


def use_of_model(kind: str, name: str) -> str:
    """A sentence when an open run measures this model of this kind of engine, "" else; through the gateway it may be any."""
    for run in Run.objects.filter(state__in=(State.QUEUED, State.RUNNING)):
        models = {full_name(each) for each in run.parameters.get("models") or ()}
        if run.parameters.get("engine") in (kind, "gateway") and name in models:
            return f"Benchmark {run.pk} of {name} is {run.state}."
    return ""


def may_change(user: User | AnonymousUser, run: Run) -> bool:
    """Cancel, delete, baseline: whoever asked for the run, and staff."""
    return user.is_staff or (run.user_id is not None and run.user_id == user.pk)


def measurements(run: Run) -> list[Measurement]:
    """In order of measuring, without the raw results."""
    return list(run.measurements.defer("raw"))


def raw_results(run: Run, model: str | None = None) -> Iterator[tuple[Measurement, dict[str, Any]]]:
    """Each measurement with its Result, one at a time: a big run never stands in memory whole."""
    rows = run.measurements.all() if model is None else run.measurements.filter(model=model)
    for row in rows.iterator(chunk_size=1):
        yield row, json.loads(zlib.decompress(bytes(row.raw)))


def history(run: Run, other: Run, limit: int = 50) -> list[Run]:
    """Other runs that were asked for the same on the same host, the newest first: they tell how far runs differ by themselves."""
    same = Run.objects.filter(host=run.host, state=State.DONE, parameters=run.parameters)
    return list(same.exclude(pk__in=(run.pk, other.pk)).order_by("-created_at")[:limit])


def comparable_runs(limit: int = 50) -> list[Run]:
    """Runs that measured something, for the choice of two to compare; baselines first."""
    return list(Run.objects.exclude(figures={}).order_by("-is_baseline", "-created_at", "-id")[:limit])


def baseline_for(run: Run) -> Run | None:
    """The baseline of the same kind and models on the same host, other than the run itself."""
    same = Run.objects.filter(host=run.host, kind=run.kind, model_names=run.model_names, is_baseline=True)
    return same.exclude(pk=run.pk).first()
