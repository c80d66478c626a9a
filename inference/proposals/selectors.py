"""Questions about proposals."""

from django.db.models import QuerySet

from inference.models import Proposal, ProposalState

N_DECIDED = 30


def n_open() -> int:
    return Proposal.objects.filter(state=ProposalState.OPEN).count()


def to_decide() -> QuerySet[Proposal]:
    """Open ones, and those whose step failed, so that it can be tried again."""
    states = (ProposalState.OPEN, ProposalState.FAILED)
    return Proposal.objects.filter(state__in=states).select_related("job")


def running() -> QuerySet[Proposal]:
    return Proposal.objects.filter(state=ProposalState.STARTED).select_related("job")


def decided() -> list[Proposal]:
    """Done and dismissed, the last ones."""
    states = (ProposalState.DONE, ProposalState.DISMISSED)
    rows = Proposal.objects.filter(state__in=states).select_related("job")
    return list(rows.order_by("-decided_at", "-id")[:N_DECIDED])
