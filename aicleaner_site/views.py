"""Pages and answers that belong to no single app."""

import ipaddress
import secrets
import sys
import time

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils import timezone
from django.views import defaults
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_safe

from aicleaner_site import accounts, health, live_page
from monitoring.exports.grafana import dashboard
from monitoring.exports.prometheus import prometheus_text
from monitoring.exports.selectors import current_families


@require_safe
def live(request: HttpRequest) -> HttpResponse:
    context = {"gateway_url": settings.GATEWAY_URL, "metrics": sorted(live_page.METRICS)}
    return render(request, "live.html", context)


@require_GET
@never_cache
def live_first(request: HttpRequest) -> JsonResponse:
    return JsonResponse(live_page.first_data(time.time()))


@login_not_required
@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """For pages that name no icon of their own (the admin)."""
    return redirect(static("icon.svg"))


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    parts = health.check()
    return JsonResponse(health.report(parts), status=200 if all(part.ok for part in parts) else 503)


@login_not_required
@require_safe
@never_cache
def metrics_text(request: HttpRequest) -> HttpResponse:
    if not _may_read_metrics(request):
        return HttpResponse(
            "Send 'Authorization: Bearer TOKEN' with the value of AICLEANER_METRICS_TOKEN, or ask from this machine.\n",
            status=401,
            content_type="text/plain",
            headers={"WWW-Authenticate": "Bearer"},
        )
    families = current_families()
    if families is None:
        return HttpResponse(
            "no sample in the last 10 s: is the collector running?\n", status=503, content_type="text/plain"
        )
    return HttpResponse(prometheus_text(families), content_type="text/plain; version=0.0.4; charset=utf-8")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls it where it handles the error. A database that is away or full is no fault of the page."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return HttpResponse(
            render_to_string("database.html"), status=503
        )  # no context asks the database again
    return defaults.server_error(request)


@require_safe
def grafana_json(request: HttpRequest) -> JsonResponse:
    headers = {"Content-Disposition": 'attachment; filename="aicleaner-grafana.json"'}
    return JsonResponse(dashboard(), headers=headers, json_dumps_params={"indent": 1})


def _may_read_metrics(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and settings.METRICS_TOKEN:
        return secrets.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    # Behind a reverse proxy everybody seems to come from this machine: then only the token counts.
    if any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP")):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


@login_not_required
@require_GET
@never_cache
def login_once(request: HttpRequest, token: str) -> HttpResponse:
    user = accounts.use_one_time_login(token, timezone.now())
    if user is None:
        return render(request, "registration/login_once_failed.html", status=410)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("/")
