"""Pages of findings; who is logged in may dismiss. They keep themselves fresh by the news `insight`."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from monitoring.alerts.baselines import Side
from monitoring.alerts.conditions import Kind as Condition
from monitoring.analysis import charts, selectors, services, words
from monitoring.analysis.catalogue import LOAD
from monitoring.analysis.forms import DismissForm, FindingsForm
from monitoring.analysis.study import Kind
from monitoring.history.parameters import MAX_SERIES
from monitoring.models import Finding

PAGE = 50


@require_safe
def insights(request: HttpRequest) -> HttpResponse:
    form = FindingsForm(request.GET) if request.GET else FindingsForm({"show": "open"})
    asked = form.asked()
    host = settings.HOST_NAME
    page = Paginator(selectors.filtered_findings(host, asked), PAGE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "show": asked["show"],
        "filtered": bool(asked.get("group") or asked.get("series")),
        "page": page,
        "groups": selectors.grouped(list(page.object_list)),
        "n_dismissed": selectors.filtered_findings(host, {"show": "dismissed"}).count(),
        "analysis": selectors.analysis_of(host),
    }
    return render(request, "monitoring/insights.html", context)


@require_safe
def usual(request: HttpRequest) -> HttpResponse:
    rows = selectors.usual_now(settings.HOST_NAME, int(timezone.now().timestamp()))
    return render(request, "monitoring/usual.html", {"rows": rows, "zone": settings.HOST_TIME_ZONE})


@require_safe
def finding(request: HttpRequest, finding_id: int) -> HttpResponse:
    return _page(request, finding_id, DismissForm())


def _page(request: HttpRequest, finding_id: int, form: DismissForm) -> HttpResponse:
    found = get_object_or_404(Finding, pk=finding_id)
    incident = selectors.incident_of(found)
    context = {
        "finding": found,
        "incident": incident,
        "form": form,
        "chart": charts.finding_chart(found, timezone.now()),
        "rule_url": f"{reverse('rule-new')}?{urlencode(rule_of(found))}",
        "history_url": _history_url(found, incident),
        "chance": words.chance(found.p),
    }
    return render(request, "monitoring/finding.html", context)


@require_POST
def dismiss(request: HttpRequest, finding_id: int) -> HttpResponse:
    form = DismissForm(request.POST)
    if not form.is_valid():
        return _page(request, finding_id, form)
    try:
        services.dismiss(
            finding_id, who=request.user.get_username(), why=form.cleaned_data["why"], now=timezone.now()
        )
    except services.EndedError:
        return _is_over(request, finding_id)
    messages.success(request, "Dismissed until it changes.")
    return redirect("insights")


@require_POST
def show_again(request: HttpRequest, finding_id: int) -> HttpResponse:
    try:
        services.show_again(finding_id)
    except services.EndedError:
        return _is_over(request, finding_id)
    return redirect("finding", finding_id)


def _is_over(request: HttpRequest, finding_id: int) -> HttpResponse:
    get_object_or_404(Finding, pk=finding_id)
    messages.warning(request, "This finding has ended meanwhile; nothing was changed.")
    return redirect("finding", finding_id)


def rule_of(found: Finding) -> dict[str, str]:
    """Fields of a rule that watches for what was found, for the form of a new one."""
    limit = found.facts.get("limit")
    if found.kind in (Kind.FORECAST, Kind.TREND) and limit is not None:
        kind = {
            "kind": Condition.FORECAST,
            "limit": f"{limit:g}",
            "window_s": "21600",
            "fire_at": "24",
            "clear_at": "48",
            "side": _side(found.facts["slope"]),
        }
        return {"name": f"{found.metric} reaches its limit", "series": found.series, **kind}
    kind = {
        "kind": Condition.DEVIATION,
        "window_s": "180",
        "fire_at": "6",
        "clear_at": "3",
        "load": LOAD,
        "busy_at": "1",
        # Another scatter goes to both sides.
        "side": Side.EITHER.value if found.kind == Kind.VOLATILITY else _side(found.size),
    }
    return {"name": f"{found.metric} unlike its past", "series": found.series, **kind}


def _side(sign: float) -> str:
    return (Side.BELOW if sign < 0 else Side.ABOVE).value


def _history_url(found: Finding, incident: list[Finding]) -> str:
    """All series of the incident on one cursor, its own first."""
    start, end = charts.span_of(found, timezone.now())
    times = {
        name: f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"
        for name, second in (("from", start), ("to", end))
    }
    series = list(dict.fromkeys([found.series, *(each.series for each in incident)]))[:MAX_SERIES]
    query = urlencode({"host": found.host, "series": series, **times}, doseq=True)
    return f"{reverse('history')}?{query}"
