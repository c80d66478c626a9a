"""Questions about jobs and variants."""

from collections.abc import Sequence

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from inference.distillation.kept import About
from inference.heavy import Elsewhere, other_work
from inference.models import JobState, ModelJob, Variant


def is_waiting(host: str) -> bool:
    return ModelJob.objects.filter(host=host, state=JobState.QUEUED).exists()


def find_jobs(*, state: str = "", kind: str = "", model: str = "") -> QuerySet[ModelJob]:
    """Newest first; `model` is a part of the source's or the target's name."""
    jobs = ModelJob.objects.all()
    if state:
        jobs = jobs.filter(state=state)
    if kind:
        jobs = jobs.filter(kind=kind)
    if model:
        jobs = jobs.filter(source__icontains=model) | jobs.filter(target__icontains=model)
    return jobs


def n_ahead(job: ModelJob) -> int:
    """Jobs that come before this queued one, the running one included."""
    same = ModelJob.objects.filter(host=job.host)
    queued = same.filter(state=JobState.QUEUED, created_at__lt=job.created_at)
    return queued.count() + same.filter(state=JobState.RUNNING).count()


def heavy_work(host: str) -> Elsewhere:
    """For upper apps, which wait for it."""
    job = ModelJob.objects.filter(host=host, state=JobState.RUNNING).first()
    running = "" if job is None else f"Model job {job.pk} ({job.kind} {job.source}) is running."
    first = ModelJob.objects.filter(host=host, state=JobState.QUEUED).order_by("created_at").first()
    return Elsewhere(running, None if first is None else first.created_at)


def waits_for(job: ModelJob) -> str:
    """What else, beside other jobs, comes before this queued one; "": nothing."""
    found = [each for each in other_work(job.host) if each.comes_first(job.created_at)]
    return next((each.running or "A benchmark was asked for sooner." for each in found), "")


def may_change(user: User | AnonymousUser, job: ModelJob) -> bool:
    return bool(user.is_staff or (job.user_id is not None and job.user_id == user.pk))


def variants() -> QuerySet[Variant]:
    return Variant.objects.select_related("job")


def resting(checkpoints: Sequence[About]) -> list[About]:
    """Those that no running job is using: its own, or one that asks for the same and has not written yet."""
    running = set(ModelJob.objects.filter(state=JobState.RUNNING).values_list("source", "target"))
    return [each for each in checkpoints if (each.source, each.target) not in running]
