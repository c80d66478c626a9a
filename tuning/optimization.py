"""The look at the models each minute: what the profile or config.yaml asks for is proposed, or done by setting."""

import logging
from datetime import datetime, timedelta

import redis
from django.conf import settings

from benchmarks.models import Run
from benchmarks.models import State as RunState
from inference.catalogue.memory import memory_state
from inference.errors import BusyError, InferenceError
from inference.models import JobState, ModelJob, Proposal, ProposalKind, ProposalState
from inference.proposals import services as proposals
from inference.tasks import wake_model_worker
from tuning import variants

PRESSURE_KEY = "aicleaner:optimization:pressure"
PRESSURE_WITHIN, PRESSURE_LOOKS = timedelta(minutes=30), 3
log = logging.getLogger(__name__)


def optimize(*, now: datetime) -> None:
    """Never the same twice, one step at a time, and nothing while a job or a benchmark runs."""
    proposals.end_finished(now=now)
    wish, current = variants.current_wish()
    looks = note_pressure(memory_state().level, now=now)
    pressed = ""
    if looks >= PRESSURE_LOOKS:
        minutes = PRESSURE_WITHIN.total_seconds() / 60
        pressed = f"memory was short at {looks} looks within {minutes:.0f} minutes"
    outlook = variants.look(wish, now=now, pressed=pressed)
    variants.put_in_place(outlook, current, now=now)
    steps = variants.steps(outlook)
    proposals.sync(steps, engines=outlook.engines, now=now)
    if not busy():
        _do_next(steps, now=now)


def note_pressure(level: str, *, now: datetime) -> int:
    """How often the pressure was high at the last looks, this one included. Without Valkey nothing is remembered."""
    at, since = now.timestamp(), (now - PRESSURE_WITHIN).timestamp()
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        pipeline = client.pipeline()
        if level == "high":
            pipeline.zadd(PRESSURE_KEY, {f"{at:.3f}": at})
        pipeline.zremrangebyscore(PRESSURE_KEY, "-inf", f"({since}")
        pipeline.zcard(PRESSURE_KEY)
        pipeline.expire(PRESSURE_KEY, int(PRESSURE_WITHIN.total_seconds()))
        return int(pipeline.execute()[-2])
    except redis.RedisError:
        return 0
    finally:
        client.close()


def busy() -> bool:
    """Whether the machine measures or makes something: a step would disturb it, and be disturbed."""
    jobs = ModelJob.objects.filter(host=settings.HOST_NAME, state__in=(JobState.QUEUED, JobState.RUNNING))
    runs = Run.objects.filter(host=settings.HOST_NAME, state__in=(RunState.QUEUED, RunState.RUNNING))
    return jobs.exists() or runs.exists()


def _do_next(steps: list[proposals.Step], *, now: datetime) -> None:
    """The first open one that the settings allow."""
    for step in steps:
        row = Proposal.objects.filter(**step.key, state=ProposalState.OPEN).first()
        if row is None or not may_do(step.kind):
            continue
        try:
            job = proposals.start(row, who=proposals.PRODUCT, user=None, now=now, by_itself=True)
        except BusyError:
            return
        except InferenceError as error:
            proposals.refuse(row, error, now=now)
            continue
        if job is not None:
            wake_model_worker()
        return


def may_do(kind: ProposalKind) -> bool:
    """Whether the settings let the product do this by itself."""
    config = settings.CONFIG
    if kind in {ProposalKind.PRUNE, ProposalKind.ARCHIVE}:
        return bool(config.compression.auto_compress)
    return bool(config.quantization.auto_quantize)
