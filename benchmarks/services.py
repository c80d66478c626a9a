"""Writes of the benchmarks app. Each change of state is one conditional update: whoever comes second finds it done."""

import json
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from benchmarks.errors import BusyError, NotAllowedError
from benchmarks.models import Measurement, Run, State
from benchmarks.outcome import Outcome, work_out
from benchmarks.parameters import Parameters
from monitoring.news import tell
from monitoring.services import record_event

LEASE = timedelta(seconds=20)  # a heartbeat comes each second; a busy database may hold it up for some


def create_run(parameters: Parameters, *, host: str, who: str, user: User | None, now: datetime) -> Run:
    """A run at the end of the queue."""
    run = Run.objects.create(**_fields(parameters, host, who, user, now))
    tell("run", run.pk, state=run.state)
    return run


def create_running_run(parameters: Parameters, *, host: str, who: str, now: datetime) -> Run:
    """A run that its creator measures at once. Raises BusyError while another one is running on `host`."""
    fields = _fields(parameters, host, who, None, now)
    try:
        with transaction.atomic():
            run = Run.objects.create(**fields, state=State.RUNNING, started_at=now, heartbeat_at=now)
            _started(run, now)
    except IntegrityError as error:
        raise BusyError(f"Another benchmark is running on {host}.") from error
    return run


def _fields(parameters: Parameters, host: str, who: str, user: User | None, now: datetime) -> dict[str, Any]:
    return {
        "host": host,
        "who": who,
        "user": user,
        "kind": parameters.kind,
        "model_names": list(parameters.models),
        "parameters": parameters.model_dump(mode="json"),
        "created_at": now,
    }


def start_next_run(*, host: str, now: datetime) -> Run | None:
    """Take the oldest run of the queue of `host`; None when there is none or one is running already."""
    while run := Run.objects.filter(host=host, state=State.QUEUED).order_by("created_at", "id").first():
        try:
            with transaction.atomic():
                taken = Run.objects.filter(pk=run.pk, state=State.QUEUED).update(
                    state=State.RUNNING, started_at=now, heartbeat_at=now
                )
                if taken:
                    _started(run, now)
        except IntegrityError:  # the constraint: one running run per host
            return None
        if taken:
            run.refresh_from_db()
            return run
    return None


def _started(run: Run, now: datetime) -> None:
    text = f"benchmark {run.pk} started: {run.kind}, {', '.join(run.model_names)}"
    record_event(host=run.host, at=now.timestamp(), kind="benchmark", text=text)
    tell("run", run.pk, state=State.RUNNING)


def keep_lease(run: Run, *, now: datetime, progress: dict[str, Any] | None = None) -> bool:
    """Say that the run goes on; False when it is not ours any more (its lease had run out)."""
    values: dict[str, Any] = {"heartbeat_at": now}
    if progress is not None:
        values["progress"] = progress
    return bool(Run.objects.filter(pk=run.pk, state=State.RUNNING).update(**values))


def tell_progress(run: Run, progress: dict[str, Any]) -> None:
    tell("run", run.pk, state=State.RUNNING, **progress)


def store_fingerprint(run: Run, fingerprint: dict[str, Any]) -> None:
    Run.objects.filter(pk=run.pk).update(fingerprint=fingerprint)


def store_measurement(
    run: Run,
    *,
    model: str,
    number: int,
    started_at: datetime,
    ended_at: datetime,
    complete: bool,
    result: dict[str, Any],
    summary: dict[str, Any],
) -> Measurement:
    """Keep what one load process measured (`number`: its round)."""
    return Measurement.objects.create(
        run=run,
        model=model,
        round=number,
        started_at=started_at,
        ended_at=ended_at,
        complete=complete,
        summary=summary,
        raw=zlib.compress(json.dumps(result, separators=(",", ":")).encode(), 6),
    )


def sum_up(run: Run, alive: Callable[[], object] = lambda: None) -> Outcome:
    """The run's outcome, worked out and stored unless it is; empty where nothing was measured."""
    if not run.outcome and run.measurements.exists():
        # Whoever measured holds the row as it was at the start: power would be looked up for its first seconds only.
        run.refresh_from_db(fields=("state", "ended_at", "heartbeat_at"))
        outcome = work_out(run, alive)
        run.outcome, run.figures = outcome.as_json(), outcome.headlines()
        Run.objects.filter(pk=run.pk).update(outcome=run.outcome, figures=run.figures)
        tell("run", run.pk, state=run.state)
    return Outcome.of(run)


def end_run(run: Run, state: State, reason: str = "", *, now: datetime) -> bool:
    """End a running run; False when something else ended it before."""
    with transaction.atomic():
        ended = Run.objects.filter(pk=run.pk, state=State.RUNNING).update(
            state=state, reason=reason[:500], ended_at=now
        )
        if ended:
            text = f"benchmark {run.pk} {state.value}" + (f": {reason}" if reason else "")
            record_event(host=run.host, at=now.timestamp(), kind="benchmark", text=text)
            tell("run", run.pk, state=state)
    return bool(ended)


def cancel_run(run: Run, *, who: str, now: datetime) -> None:
    """A queued run is cancelled at once, a running one by whoever runs it. Raises NotAllowedError when it is over."""
    reason = f"cancelled by {who}"
    if Run.objects.filter(pk=run.pk, state=State.QUEUED).update(
        state=State.CANCELLED, reason=reason, ended_at=now
    ):
        tell("run", run.pk, state=State.CANCELLED)
    elif not Run.objects.filter(pk=run.pk, state=State.RUNNING).update(cancel_asked_at=now, reason=reason):
        raise NotAllowedError("This run is over: there is nothing to cancel.")


def interrupt_lost_runs(*, now: datetime) -> list[Run]:
    """End the running runs whose lease ran out: their process is gone. Returns them."""
    lost = Run.objects.filter(state=State.RUNNING, heartbeat_at__lt=now - LEASE)
    gone = "the process that ran it is gone"
    return [run for run in lost if end_run(run, State.INTERRUPTED, gone, now=now)]


def set_baseline(run: Run, *, on: bool) -> None:
    """Of runs of the same kind and models on the same host at most one is the baseline. Raises NotAllowedError."""
    if on and run.state != State.DONE:
        raise NotAllowedError("Only a run that is done can be a baseline.")
    with transaction.atomic():
        same = Run.objects.filter(host=run.host, kind=run.kind, model_names=run.model_names, is_baseline=True)
        same.exclude(pk=run.pk).update(is_baseline=False)
        Run.objects.filter(pk=run.pk).update(is_baseline=on)
    tell("run", run.pk, state=run.state)


def delete_run(run: Run) -> None:
    """Raises NotAllowedError for a run that is running: cancel it first."""
    pk = run.pk
    with transaction.atomic():
        n_deleted, _ = Run.objects.filter(pk=pk).exclude(state=State.RUNNING).delete()
        if not n_deleted:
            raise NotAllowedError("This run is running: cancel it first, then delete it.")
        tell("run", pk, state="deleted")
