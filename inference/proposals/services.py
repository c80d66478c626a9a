"""Writes of the proposals. Each decision is a line of the event log."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from inference import events
from inference.aliases.services import set_alias
from inference.catalogue.services import record_event
from inference.errors import BusyError, InferenceError, NotAllowedError
from inference.jobs.parameters import JobParameters, check
from inference.jobs.services import create_job
from inference.models import (
    ActionState,
    DecidedBy,
    JobKind,
    JobState,
    ModelAction,
    ModelJob,
    Proposal,
    ProposalKind,
    ProposalState,
)
from inference.pushing import Told, log_delivery

PRODUCT = "optimization"  # who, in the event log
STARTABLE = (ProposalState.OPEN, ProposalState.FAILED)


@dataclass(frozen=True)
class Step:
    """What is to be proposed: the fields of Proposal of the same names."""

    engine_kind: str
    model: str
    digest: str
    kind: ProposalKind
    what: str
    reason: str
    size_bytes: int | None = None
    expected_bytes: int | None = None
    max_loss: float | None = None

    @property
    def key(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("engine_kind", "model", "digest", "kind", "what")}


def propose(step: Step, *, now: datetime) -> Proposal:
    """The row of this step, open if it may be said (again): what was dismissed, started or done stays so."""
    with transaction.atomic():
        values = {**asdict(step), "reason": step.reason[:300]}
        row, is_new = Proposal.objects.get_or_create(**step.key, defaults={**values, "created_at": now})
        told = {name: values[name] for name in ("reason", "size_bytes", "expected_bytes", "max_loss")}
        again = Proposal.objects.filter(pk=row.pk, state=ProposalState.WITHDRAWN)
        if is_new or again.update(**told, state=ProposalState.OPEN, created_at=now):
            row.refresh_from_db()
            _log(row, ModelAction.PROPOSE, f"{row.step}: {row.reason}", who=PRODUCT, now=now, by_itself=True)
        elif row.state == ProposalState.OPEN and any(getattr(row, name) != told[name] for name in told):
            Proposal.objects.filter(pk=row.pk).update(**told)
            row.refresh_from_db()
    return row


def sync(steps: Iterable[Step], *, engines: Collection[str], now: datetime) -> None:
    """Propose these and withdraw the open ones whose reason is gone. `engines`: the kinds that answered; of the others
    nothing is known. A model that a job works on waits: what is made of it is there before it is measured."""
    worked_on = in_work()
    kept = {propose(step, now=now).pk for step in steps if (step.engine_kind, step.model) not in worked_on}
    gone = Proposal.objects.filter(state=ProposalState.OPEN, engine_kind__in=engines).exclude(pk__in=kept)
    for row in gone:
        if (row.engine_kind, row.model) in worked_on:
            continue
        if Proposal.objects.filter(pk=row.pk, state=ProposalState.OPEN).update(state=ProposalState.WITHDRAWN):
            events.tell("proposal", row.pk)


def in_work() -> set[tuple[str, str]]:
    """(engine, model) of the open jobs."""
    jobs = ModelJob.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING))
    return {(job.parameters.get("engine_kind", ""), job.source) for job in jobs}


def ask_again(row: Proposal, *, now: datetime) -> Proposal:
    """A person wants it after all: what was dismissed, or done and is gone since, is open once more."""
    over = (ProposalState.DISMISSED, ProposalState.DONE, ProposalState.WITHDRAWN)
    Proposal.objects.filter(pk=row.pk, state__in=over).update(state=ProposalState.OPEN, created_at=now)
    row.refresh_from_db()
    return row


def start(
    row: Proposal,
    *,
    who: str,
    user: User | None,
    now: datetime,
    by_itself: bool = False,
    told: Told = log_delivery,
) -> ModelJob | None:
    """Do the step: the job of it, at the end of the queue, or None where there is none to wait for. Raises InferenceError;
    the proposal stays then. The caller wakes the worker."""
    parameters = _parameters(row)
    names: tuple[str, str] | None = None
    if row.kind != ProposalKind.USE:  # asks the engine: not within a transaction
        target = row.what if row.kind == ProposalKind.MEASURE else ""
        names = check(row.kind, row.model, target, parameters)
    try:
        with transaction.atomic():
            taken = Proposal.objects.filter(pk=row.pk, state__in=STARTABLE).update(
                state=ProposalState.STARTED, by_itself=by_itself, who=who, decided_at=now, result=""
            )
            if not taken:
                raise NotAllowedError("This was started or dismissed already.")
            row.refresh_from_db()
            _log(row, ModelAction.START, f"{row.step}: {row.reason}", who=who, now=now, by_itself=by_itself)
            if names is None:
                decided_by = DecidedBy.OPTIMIZATION if by_itself else DecidedBy.PERSON
                set_alias(row.model, row.what, who=who, user=user, now=now, decided_by=decided_by, told=told)
                _end(row, ProposalState.DONE, f"{row.what} answers for {row.model}", now=now)
                return None
            job = create_job(
                JobKind(row.kind), *names, parameters, host=settings.HOST_NAME, who=who, user=user, now=now
            )
            Proposal.objects.filter(pk=row.pk).update(job=job)
    except IntegrityError as error:  # the constraint: one at a time by itself
        raise BusyError("Another step is being done by itself.") from error
    row.job = job
    return job


def _parameters(row: Proposal) -> JobParameters:
    more: dict[str, object] = {}
    if row.kind == ProposalKind.QUANTIZE:
        more = {"level": row.what}
    elif row.kind == ProposalKind.PRUNE:
        more = {"max_loss": row.max_loss}
    elif row.kind == ProposalKind.ARCHIVE:
        more = {"packing": row.what}
    return JobParameters.model_validate({"engine_kind": row.engine_kind, **more})


def dismiss(row: Proposal, *, who: str, now: datetime) -> None:
    """It is not proposed again. Raises NotAllowedError when it is not open."""
    with transaction.atomic():
        taken = Proposal.objects.filter(pk=row.pk, state__in=STARTABLE)
        if not taken.update(state=ProposalState.DISMISSED, who=who, decided_at=now):
            raise NotAllowedError("This was started or dismissed already.")
        row.refresh_from_db()
        _log(row, ModelAction.DISMISS, row.step, who=who, now=now)


def refuse(row: Proposal, error: InferenceError, *, now: datetime) -> None:
    """What can't be started by itself is left to a person, with the reason."""
    with transaction.atomic():
        row.by_itself, row.who, row.decided_at = True, PRODUCT, now
        row.save(update_fields=("by_itself", "who", "decided_at"))
        _end(row, ProposalState.FAILED, str(error), now=now)


def end_finished(*, now: datetime) -> None:
    """Say of each started step what became of its job."""
    for row in Proposal.objects.filter(state=ProposalState.STARTED).select_related("job"):
        job = row.job
        if job is None:
            _end(row, ProposalState.FAILED, "its job is gone", now=now)
        elif job.is_over:
            state = ProposalState.DONE if job.state == JobState.DONE else ProposalState.FAILED
            words = _outcome(row, job) if state == ProposalState.DONE else f"{job.state}: {job.reason}"
            _end(row, state, words, now=now)


def _outcome(row: Proposal, job: ModelJob) -> str:
    variant = job.variants.first()
    if variant is None:
        return ""
    loss = variant.measure("quality", "kl", "value")
    if loss is None:
        return f"{variant.name} is made, but its loss was not measured: it is not used by itself"
    if row.max_loss is not None and loss > row.max_loss:
        return f"{variant.name} loses {loss:.2g}, more than {row.max_loss:g}: it is not used by itself"
    return f"{variant.name} loses {loss:.2g} nats per token"


def _end(row: Proposal, state: ProposalState, result: str, *, now: datetime) -> None:
    open_ones = Proposal.objects.filter(pk=row.pk, state__in=(*STARTABLE, ProposalState.STARTED))
    if not open_ones.update(state=state, result=result[:500]):
        return
    who = row.who or PRODUCT
    failed = state == ProposalState.FAILED
    action = ModelAction.USE if row.kind == ProposalKind.USE and not failed else ModelAction.START
    _log(
        row,
        action,
        f"{row.step}: {'failed' if failed else 'done'}",
        who=who,
        now=now,
        by_itself=row.by_itself,
        state=ActionState.FAILED if failed else ActionState.DONE,
        result=result,
    )


def _log(
    row: Proposal,
    action: ModelAction,
    detail: str,
    *,
    who: str,
    now: datetime,
    by_itself: bool = False,
    state: ActionState = ActionState.DONE,
    result: str = "",
) -> None:
    record_event(
        action,
        row.engine_kind,
        row.model,
        who=who,
        now=now,
        detail=detail,
        state=state,
        result=result,
        by_itself=by_itself,
    )
    events.tell("proposal", row.pk)
