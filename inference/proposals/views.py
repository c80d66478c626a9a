"""The page of the proposals."""

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from inference import tasks
from inference.errors import InferenceError
from inference.models import Proposal
from inference.proposals import selectors, services
from inference.pushing import Delivery


@require_safe
@never_cache
def proposals(request: HttpRequest) -> HttpResponse:
    context = {
        "to_decide": selectors.to_decide(),
        "running": selectors.running(),
        "decided": selectors.decided(),
    }
    return render(request, "inference/proposals.html", context)


@require_POST
def start(request: HttpRequest, proposal_id: int) -> HttpResponse:
    row, user = _row(request, proposal_id), request.user
    assert isinstance(user, User)  # the middleware lets nobody else through

    def told(delivery: Delivery) -> None:
        (messages.success if delivery.ok else messages.warning)(request, delivery.text)

    try:
        job = services.start(row, who=user.get_username(), user=user, now=timezone.now(), told=told)
    except InferenceError as error:
        messages.error(request, f"{row.model}: {error}")
        return redirect("proposals")
    tasks.wake_model_worker()
    return redirect("job", job.pk) if job is not None else redirect("proposals")


@require_POST
def dismiss(request: HttpRequest, proposal_id: int) -> HttpResponse:
    row = _row(request, proposal_id)
    try:
        services.dismiss(row, who=request.user.get_username(), now=timezone.now())
        messages.success(request, f"Dismissed: {row.model} is left as it is, and this is not proposed again.")
    except InferenceError as error:
        messages.error(request, str(error))
    return redirect("proposals")


def _row(request: HttpRequest, proposal_id: int) -> Proposal:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may decide about models.")
    return get_object_or_404(Proposal, pk=proposal_id)
