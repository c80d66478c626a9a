"""Pages of channels and of what lies in their outbox; for staff. They keep themselves fresh by `channel` and `alert`."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from monitoring.alerts import channel_services as services
from monitoring.alerts import selectors
from monitoring.alerts.channel_forms import FORMS, LABELS, LogFilterForm, lacking_secrets
from monitoring.channels import CHANNELS
from monitoring.models import ChannelConfig, Delivery
from monitoring.models.delivery import DeliveryStatus
from safeguards.sealing import SealError, channel_secrets

PAGE = 25
ZONE_COOKIE = "aicleaner_zone"  # static/js/theme.js
View = Callable[..., HttpResponse]


def for_staff(view: View) -> View:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_staff:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked


@require_safe
@for_staff
def channels(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    health = selectors.channels_with_health(now)
    form = LogFilterForm(request.GET or None, channels=[(each.key, each.name) for each in health])
    asked = form.cleaned_data if form.is_valid() else {}
    found = selectors.delivery_log(asked.get("channel", ""), asked.get("status", ""))
    chosen = next((each.name for each in health if each.key == asked.get("channel")), "")
    context = {
        "channels": [(each, lacking_secrets(each.config) if each.config else []) for each in health],
        "kinds": LABELS,
        "form": form,
        "page": Paginator(found, PAGE).get_page(request.GET.get("page")),
        "asked": asked,
        "query": urlencode({name: value for name, value in asked.items() if value}),
        "n_dead": found.filter(status=DeliveryStatus.DEAD).count(),
        "of_channel": chosen,
        "builtin": list(CHANNELS),
    }
    return render(request, "monitoring/channels.html", context)


@for_staff
def new(request: HttpRequest, kind: str) -> HttpResponse:
    if kind not in FORMS:
        raise Http404
    return _edit(request, ChannelConfig(kind=kind), {})


@for_staff
def edit(request: HttpRequest, config_id: int) -> HttpResponse:
    config = get_object_or_404(ChannelConfig, pk=config_id)
    try:
        stored = channel_secrets.unseal(config.sealed)
    except SealError as error:
        stored = {}
        if request.method != "POST":
            messages.error(request, f"{config.name}: {error}.")
    return _edit(request, config, stored)


def _edit(request: HttpRequest, config: ChannelConfig, stored: dict[str, str]) -> HttpResponse:
    kind, name = FORMS[config.kind], config.name
    zone = request.COOKIES.get(ZONE_COOKIE, "UTC").replace("%2F", "/")
    form = kind(request.POST if request.method == "POST" else None, instance=config, stored=stored, zone=zone)
    if request.method == "POST" and form.is_valid():
        config.settings = form.settings()
        services.save_channel(config, form.secrets(), who=request.user.get_username(), now=timezone.now())
        messages.success(request, f"{config.name} is saved. Send a test to see that it works.")
        return redirect("channels")
    context = {"form": form, "config": config, "label": LABELS[config.kind], "name": name}
    return render(request, "monitoring/channel.html", context)


@for_staff
def delete(request: HttpRequest, config_id: int) -> HttpResponse:
    """Asks, then does it."""
    config = get_object_or_404(ChannelConfig, pk=config_id)
    if request.method == "POST":
        services.delete_channel(config, who=request.user.get_username())
        messages.success(request, f"{config.name} is deleted.")
        return redirect("channels")
    n_waiting = config.deliveries.filter(status=DeliveryStatus.WAITING).count()
    return render(request, "monitoring/channel_delete.html", {"config": config, "n_waiting": n_waiting})


@require_POST
@for_staff
def test(request: HttpRequest, config_id: int) -> HttpResponse:
    config = get_object_or_404(ChannelConfig, pk=config_id)
    try:
        services.ask_test(config, now=timezone.now())
    except services.NoWorkerError:
        messages.error(request, "The test was not sent: the worker can't be reached. Try again in a moment.")
    return redirect("channels")


@require_POST
@for_staff
def retry(request: HttpRequest, delivery_id: int) -> HttpResponse:
    found = Delivery.objects.filter(pk=get_object_or_404(Delivery, pk=delivery_id).pk)
    if services.retry(found, now=timezone.now()):
        messages.success(request, "It is tried again.")
    else:
        messages.warning(
            request, "It was not tried again: it is not given up any more, or its channel is off or gone."
        )
    return redirect("channels")


@require_POST
@for_staff
def retry_all(request: HttpRequest) -> HttpResponse:
    """Of one channel, or of all."""
    n = services.retry(_given_up(request), now=timezone.now())
    messages.success(request, f"{n} {'notice is' if n == 1 else 'notices are'} tried again.")
    return redirect("channels")


@require_POST
@for_staff
def dismiss(request: HttpRequest, delivery_id: int) -> HttpResponse:
    found = Delivery.objects.filter(pk=get_object_or_404(Delivery, pk=delivery_id).pk)
    if services.dismiss(found, who=request.user.get_username(), now=timezone.now()):
        messages.success(request, "It is dismissed; the filter 'dismissed' shows it.")
    else:
        messages.warning(request, "It was not dismissed: it is not given up any more.")
    return redirect("channels")


@require_POST
@for_staff
def dismiss_all(request: HttpRequest) -> HttpResponse:
    """Of one channel, or of all."""
    n = services.dismiss(_given_up(request), who=request.user.get_username(), now=timezone.now())
    messages.success(request, f"{n} {'notice is' if n == 1 else 'notices are'} dismissed.")
    return redirect("channels")


def _given_up(request: HttpRequest) -> QuerySet[Delivery]:
    return selectors.delivery_log(request.POST.get("channel", ""), DeliveryStatus.DEAD)
