"""Writes of the jobs: the queue, its ends, what a job made and measured."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from inference import events, heavy
from inference.errors import BusyError, NotAllowedError
from inference.jobs.parameters import JobParameters
from inference.models import JobState, ModelJob, Variant
from inference.models.job import LEASE


def create_job(
    kind: str,
    source: str,
    target: str,
    parameters: JobParameters,
    *,
    host: str,
    who: str,
    user: User | None,
    now: datetime,
    retry_of: ModelJob | None = None,
    running: bool = False,
) -> ModelJob:
    """A job at the end of the queue, or one that whoever calls does itself (`running`). `source`, `target`: as
    `parameters.check` returned them. Raises BusyError when another one is running."""
    state = JobState.RUNNING if running else JobState.QUEUED
    try:
        with transaction.atomic():
            if running:
                heavy.hold()
                if found := next((each.running for each in heavy.other_work(host) if each.running), ""):
                    raise BusyError(found)
            job = ModelJob.objects.create(
                kind=kind,
                source=source,
                target=target,
                parameters=parameters.model_dump(mode="json"),
                host=host,
                who=who,
                user=user,
                state=state,
                created_at=now,
                started_at=now if running else None,
                heartbeat_at=now if running else None,
                retry_of=retry_of,
            )
            events.tell("job", job.pk, state=state)
            if running:
                events.note("job", _started(job))
    except IntegrityError as error:  # the constraint: one running job per host
        raise BusyError("Another model job is running on this host.") from error
    return job


def start_next_job(*, host: str, now: datetime) -> ModelJob | None:
    """Take the oldest job of the queue of `host`; None when there is none, or something heavy is running already or was
    asked for sooner."""
    while (
        job := ModelJob.objects.filter(host=host, state=JobState.QUEUED).order_by("created_at", "id").first()
    ):
        try:
            with transaction.atomic():
                heavy.hold()
                if any(each.comes_first(job.created_at) for each in heavy.other_work(host)):
                    return None
                taken = ModelJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
                    state=JobState.RUNNING, started_at=now, heartbeat_at=now
                )
                if taken:
                    events.note("job", _started(job))
                    events.tell("job", job.pk, state=JobState.RUNNING)
        except IntegrityError:  # the constraint: one running job per host
            return None
        if taken:
            job.refresh_from_db()
            return job
    return None


def _started(job: ModelJob) -> str:
    return f"model job {job.pk} started: {job.kind} {job.source} -> {job.target}"


def keep_lease(job: ModelJob, *, now: datetime, progress: dict[str, Any]) -> bool:
    """Say that the job goes on; False when it is not ours any more (its lease had run out)."""
    running = ModelJob.objects.filter(pk=job.pk, state=JobState.RUNNING)
    return bool(running.update(heartbeat_at=now, progress=progress))


def tell_progress(job: ModelJob, progress: dict[str, Any]) -> None:
    events.tell("job", job.pk, state=JobState.RUNNING, **progress)


def end_step(job: ModelJob, step: str, took_s: float) -> None:
    job.steps = [*job.steps, {"step": step, "took_s": round(took_s, 2)}]
    ModelJob.objects.filter(pk=job.pk).update(steps=job.steps)
    events.tell("job", job.pk, state=JobState.RUNNING)


def end_job(job: ModelJob, state: JobState, reason: str = "", *, now: datetime) -> bool:
    """End a running job; False when something else ended it before."""
    with transaction.atomic():
        ended = ModelJob.objects.filter(pk=job.pk, state=JobState.RUNNING).update(
            state=state, reason=reason[:500], ended_at=now
        )
        if ended:
            events.note("job", f"model job {job.pk} {state.value}" + (f": {reason}" if reason else ""))
            events.tell("job", job.pk, state=state)
    return bool(ended)


def cancel_job(job: ModelJob, *, who: str, now: datetime) -> None:
    """A queued job is cancelled at once, a running one by whoever runs it. Raises NotAllowedError when it is over."""
    reason = f"cancelled by {who}"
    queued = ModelJob.objects.filter(pk=job.pk, state=JobState.QUEUED)
    if queued.update(state=JobState.CANCELLED, reason=reason, ended_at=now):
        events.tell("job", job.pk, state=JobState.CANCELLED)
    elif not ModelJob.objects.filter(pk=job.pk, state=JobState.RUNNING).update(
        cancel_asked_at=now, reason=reason
    ):
        raise NotAllowedError("This job is over: there is nothing to cancel.")


def interrupt_lost_jobs(*, now: datetime) -> list[ModelJob]:
    """End the running jobs whose lease ran out: their process is gone. Returns them."""
    lost = ModelJob.objects.filter(state=JobState.RUNNING, heartbeat_at__lt=now - LEASE)
    gone = "the process that ran it is gone"
    return [job for job in lost if end_job(job, JobState.INTERRUPTED, gone, now=now)]


def record_variant(
    job: ModelJob, *, engine_kind: str, made: dict[str, Any], maker: str, now: datetime
) -> Variant:
    """The pair of models that `job` made or found. `made`: `source` and `variant` with digest, size, quantization."""
    source, variant = made["source"], made["variant"]
    found, _ = Variant.objects.update_or_create(
        engine_kind=engine_kind,
        digest=variant["digest"],
        source_digest=source["digest"],
        defaults={
            "name": job.target,
            "quantization": variant["quantization"],
            "size_bytes": variant["size_bytes"],
            "source": job.source,
            "source_quantization": source["quantization"],
            "source_size_bytes": source["size_bytes"],
            "job": job,
            **({"maker": maker} if maker else {}),
        },
        create_defaults={
            "name": job.target,
            "quantization": variant["quantization"],
            "size_bytes": variant["size_bytes"],
            "source": job.source,
            "source_quantization": source["quantization"],
            "source_size_bytes": source["size_bytes"],
            "job": job,
            "maker": maker,
            "made_at": now,
        },
    )
    events.tell("job", job.pk, state=JobState.RUNNING)
    return found


def record_result(job: ModelJob, values: dict[str, Any]) -> None:
    job.result = values
    ModelJob.objects.filter(pk=job.pk).update(result=values)


def record_measure(variant: Variant, name: str, values: dict[str, Any], *, now: datetime) -> None:
    """One measure of the pair; an older one of that name is replaced."""
    with transaction.atomic():
        row = Variant.objects.select_for_update().get(pk=variant.pk)
        row.measures = {**row.measures, name: values}
        row.measured_at = now
        row.save(update_fields=("measures", "measured_at"))
        events.tell("variant", row.pk)
