"""Pages of the API keys. A token is in one answer only: the one to the request that made it."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inference.api_keys import selectors, services
from inference.api_keys.forms import KeyForm, LimitsForm
from inference.models import ApiKey
from inference.pushing import Delivery


@require_safe
@never_cache
def keys(request: HttpRequest) -> HttpResponse:
    context = {"rows": selectors.rows(timezone.now()), "standing": selectors.standing()}
    return render(request, "inference/api_keys.html", context)


@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    _staff_only(request)
    now = timezone.now()
    form = KeyForm(request.POST if request.method == "POST" else None, now=now)
    if not form.is_valid():
        return render(
            request, "inference/api_key_new.html", {"form": form}, status=400 if form.errors else 200
        )
    key: ApiKey = form.save(commit=False)
    user = request.user if isinstance(request.user, User) else None
    said: list[Delivery] = []
    token = services.create_key(key, who=_who(request), user=user, now=now, told=said.append)
    return _show_token(request, key, token, said)


@require_http_methods(["GET", "POST"])
@never_cache
def key(request: HttpRequest, key_id: int) -> HttpResponse:
    """POST: other limits."""
    found = get_object_or_404(ApiKey, pk=key_id)
    now = timezone.now()
    form = None
    if request.method == "POST":
        _staff_only(request)
        form = LimitsForm(request.POST, instance=found, now=now)
        if form.is_valid():
            services.change_key(form.save(commit=False), who=_who(request), told=_teller(request))
            return redirect(found)
        found = ApiKey.objects.get(pk=key_id)  # as it is, not as it was sent
    elif request.user.is_staff:
        form = LimitsForm(instance=found, now=now)
    context: dict[str, Any] = {
        "form": form,
        "row": selectors.row(found, now),
        "months": selectors.past_months(found),
        "near_hits": None if found.frame_distance is None else selectors.near_hits(found),
        "standing": selectors.standing(),
    }
    return render(
        request, "inference/api_key.html", context, status=400 if form is not None and form.errors else 200
    )


@require_POST
def enable(request: HttpRequest, key_id: int) -> HttpResponse:
    """`enabled`: 1 or 0."""
    _staff_only(request)
    found = get_object_or_404(ApiKey, pk=key_id)
    services.enable_key(found, request.POST.get("enabled") == "1", who=_who(request), told=_teller(request))
    return redirect(found)


@require_http_methods(["GET", "POST"])
@never_cache
def rotate(request: HttpRequest, key_id: int) -> HttpResponse:
    """Asks first."""
    _staff_only(request)
    found = get_object_or_404(ApiKey, pk=key_id)
    if request.method == "GET":
        return render(request, "inference/api_key_rotate.html", {"key": found})
    said: list[Delivery] = []
    token = services.rotate_key(found, who=_who(request), now=timezone.now(), told=said.append)
    return _show_token(request, found, token, said)


@require_http_methods(["GET", "POST"])
@never_cache
def delete(request: HttpRequest, key_id: int) -> HttpResponse:
    """Asks first."""
    _staff_only(request)
    found = get_object_or_404(ApiKey, pk=key_id)
    if request.method == "GET":
        return render(request, "inference/api_key_delete.html", {"key": found})
    services.delete_key(found, who=_who(request), told=_teller(request))
    messages.success(request, f"The API key {found.name} is deleted.")
    return redirect("api-keys")


def _show_token(request: HttpRequest, key: ApiKey, token: str, said: list[Delivery]) -> HttpResponse:
    """In the answer itself: a redirect would have to keep the token somewhere."""
    context = {"key": key, "token": token, "deliveries": said, "gateway_url": settings.GATEWAY_URL}
    return render(request, "inference/api_key_made.html", context)


def _teller(request: HttpRequest) -> Any:
    def say(delivery: Delivery) -> None:
        (messages.success if delivery.ok else messages.warning)(request, delivery.text)

    return say


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _staff_only(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may change API keys.")
