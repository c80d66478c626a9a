"""The page of the cache."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from inference.caching import selectors, services
from inference.caching.forms import ClearForm, ZoneForm
from inference.models import CacheZone
from inference.pushing import Delivery


@require_safe
@never_cache
def cache(request: HttpRequest) -> HttpResponse:
    return _page(request, ZoneForm())


@require_POST
def clear(request: HttpRequest) -> HttpResponse:
    _staff_only(request)
    form = ClearForm(request.POST)
    if form.is_valid():
        _say(request, services.clear(form.cleaned_data["model"], who=request.user.get_username()))
    else:
        messages.error(request, f"model: {form.errors['model'][0]}")
    return redirect("cache")


@require_POST
def set_zone(request: HttpRequest) -> HttpResponse:
    _staff_only(request)
    form = ZoneForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    user = request.user if isinstance(request.user, User) else None
    services.set_zone(
        form.cleaned_data["zone"],
        form.cleaned_data["distance"],
        who=request.user.get_username(),
        user=user,
        now=timezone.now(),
        told=lambda delivery: _say(request, delivery),
    )
    return redirect("cache")


@require_POST
def remove_zone(request: HttpRequest, zone_id: int) -> HttpResponse:
    _staff_only(request)
    zone = get_object_or_404(CacheZone, pk=zone_id)
    services.remove_zone(zone, who=request.user.get_username(), told=lambda delivery: _say(request, delivery))
    return redirect("cache")


def _page(request: HttpRequest, form: ZoneForm, status: int = 200) -> HttpResponse:
    """The whole page, or only what changes of it, for htmx."""
    told = selectors.told()
    now = timezone.now()
    rows = selectors.rows(told.cache, now) if told.cache else []
    context: dict[str, Any] = {
        "cache": told.cache,
        "why": told.why,
        "rows": rows,
        "total": selectors.total(rows),
        "since": selectors.since(told.cache) if told.cache else None,
        "in_force": selectors.in_force(told.cache) if told.cache else [],
        "zones": selectors.zones(told.cache, now),
        "form": form,
    }
    partial = request.headers.get("HX-Request") == "true"
    return render(request, f"inference/{'_cache' if partial else 'cache'}.html", context, status=status)


def _say(request: HttpRequest, delivery: Delivery) -> None:
    (messages.success if delivery.ok else messages.warning)(request, delivery.text)


def _staff_only(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may change what the cache keeps.")
