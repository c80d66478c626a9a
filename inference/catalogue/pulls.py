"""Writes of pulls: the queue, progress, and their ends."""

from datetime import datetime

from django.db import IntegrityError, transaction

from inference import events
from inference.catalogue.engine import NO_REGISTRY
from inference.catalogue.services import record_event
from inference.engines.selectors import EngineAddress
from inference.errors import NotAllowedError
from inference.models import ActionState, JobState, ModelAction, ModelPull
from inference.models.pull import LEASE


def create_pull(engine: EngineAddress, name: str, *, host: str, who: str, now: datetime) -> ModelPull:
    """At the end of the queue. Raises NotAllowedError."""
    if not engine.pulls:
        raise NotAllowedError(NO_REGISTRY)
    try:
        with transaction.atomic():
            pull = ModelPull.objects.create(
                host=host, who=who, engine_kind=engine.name, model=name, created_at=now
            )
            events.tell("pull", pull.pk, state=pull.state)
    except IntegrityError as error:  # the constraint: one open pull per model
        raise NotAllowedError(f"{name} is being pulled already.") from error
    return pull


def start_next_pull(*, host: str, now: datetime) -> ModelPull | None:
    """Take the oldest of the queue; None when there is none or one is running: two would share one line."""
    queued = ModelPull.objects.filter(host=host, state=JobState.QUEUED).order_by("created_at", "id")
    while pull := queued.first():
        try:
            with transaction.atomic():
                taken = ModelPull.objects.filter(pk=pull.pk, state=JobState.QUEUED).update(
                    state=JobState.RUNNING, started_at=now, heartbeat_at=now
                )
                events.tell("pull", pull.pk, state=JobState.RUNNING)
        except IntegrityError:  # the constraint: one running pull per host
            return None
        if taken:
            pull.refresh_from_db()
            return pull
    return None


def is_waiting(host: str) -> bool:
    states = set(
        ModelPull.objects.filter(host=host, state__in=(JobState.QUEUED, JobState.RUNNING)).values_list(
            "state", flat=True
        )
    )
    return states == {JobState.QUEUED}


def keep_lease(pull: ModelPull, *, step: str, done: int, total: int, now: datetime) -> bool:
    """Say that it goes on; False when it is not ours any more."""
    running = ModelPull.objects.filter(pk=pull.pk, state=JobState.RUNNING)
    return bool(running.update(heartbeat_at=now, step=step[:200], done_bytes=done, total_bytes=total))


def tell_progress(pull: ModelPull, *, step: str, done: int, total: int) -> None:
    events.tell("pull", pull.pk, state=JobState.RUNNING, step=step[:200], done=done, total=total)


def end_pull(pull: ModelPull, state: JobState, reason: str = "", *, now: datetime) -> bool:
    """End an open one, with its line in the event log; False when something else ended it before."""
    with transaction.atomic():
        ended = ModelPull.objects.filter(pk=pull.pk, state__in=(JobState.QUEUED, JobState.RUNNING)).update(
            state=state, reason=reason[:500], ended_at=now
        )
        if ended:
            events.tell("pull", pull.pk, state=state)
            record_event(
                ModelAction.PULL,
                pull.engine_kind,
                pull.model,
                who=pull.who,
                now=now,
                state=ActionState.DONE if state == JobState.DONE else ActionState.FAILED,
                result=reason,
            )
    return bool(ended)


def cancel_pull(pull: ModelPull, *, who: str, now: datetime) -> None:
    """A queued one at once, a running one by whoever runs it. Raises NotAllowedError when it is over."""
    if pull.state == JobState.QUEUED and end_pull(pull, JobState.CANCELLED, f"cancelled by {who}", now=now):
        return
    running = ModelPull.objects.filter(pk=pull.pk, state=JobState.RUNNING)
    if not running.update(cancel_asked_at=now, reason=f"cancelled by {who}"):
        raise NotAllowedError("This pull is over: there is nothing to cancel.")


def interrupt_lost_pulls(*, now: datetime) -> None:
    gone = "the process that pulled it is gone"
    for pull in ModelPull.objects.filter(state=JobState.RUNNING, heartbeat_at__lt=now - LEASE):
        end_pull(pull, JobState.INTERRUPTED, gone, now=now)
