"""Who works with a model now: it is not deleted under them."""

from collections.abc import Callable

from inference.aliases import selectors as aliases
from inference.catalogue.memory import memory_state
from inference.models import JobState, ModelJob, ModelPull
from inference.names import full_name

OPEN = (JobState.QUEUED, JobState.RUNNING)
# Upper apps add theirs: (name of the engine, full name of the model) -> a sentence, or "" when they don't use it.
users: list[Callable[[str, str], str]] = []


def use_now(kind: str, name: str, *, but_for: ModelJob | None = None) -> str:
    """Why the model can't go now; "" when nobody is known to use it, except the job that asks."""
    others = (each(kind, name) for each in (_requests, _pulls, _aliases, *users))
    return _jobs(kind, name, but_for) or next(filter(None, others), "")


def _requests(kind: str, name: str) -> str:
    standing = memory_state().models.get((kind, name))
    return f"{name} is answering a request." if standing is not None and standing.busy else ""


def _jobs(kind: str, name: str, but_for: ModelJob | None) -> str:
    for job in ModelJob.objects.filter(state__in=OPEN).exclude(pk=but_for.pk if but_for else 0):
        if job.parameters.get("engine_kind") == kind and name in (
            full_name(job.source),
            full_name(job.target),
        ):
            return f"Model job {job.pk} ({job.kind} {job.source} -> {job.target}) is {job.state}."
    return ""


def _aliases(kind: str, name: str) -> str:
    """One of another engine, of the same name, would answer on; but who deletes should know of it all the same."""
    asked = [each.name for each in aliases.in_force() if each.after == name]
    return f"{name} answers for {', '.join(asked)}: undo that first." if asked else ""


def _pulls(kind: str, name: str) -> str:
    pull = ModelPull.objects.filter(state__in=OPEN, engine_kind=kind, model=name).first()
    return f"{name} is being pulled." if pull is not None else ""
