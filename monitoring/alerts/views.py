"""Pages of alerts; who is logged in may do everything here. Every page keeps itself fresh by the news `alert`."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from monitoring.alerts import charts, selectors, services
from monitoring.alerts.forms import AcknowledgeForm, BulkForm, FilterForm, NoteForm, ResolveForm, SilenceForm
from monitoring.alerts.series import SelectorError, parse_matchers
from monitoring.models import Alert, Silence

PAGE, SHOWN_WINDOWS = 25, 3


@require_safe
def alerts(request: HttpRequest) -> HttpResponse:
    return _alerts_page(request)


def _alerts_page(request: HttpRequest, bulk: BulkForm | None = None) -> HttpResponse:
    """The list; `bulk` is what came back with errors."""
    form = FilterForm(request.GET) if request.GET else FilterForm(initial={"state": "open"})
    asked = form.cleaned_data if form.is_bound and form.is_valid() else {}
    state = asked.get("state") or "open"
    found = selectors.filtered_alerts({**asked, "state": state}, timezone.now())
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    rules, hosts = selectors.named_in_alerts()
    context = {
        "page": page,
        "form": form,
        "state": state,
        "filtered": any(value for name, value in asked.items() if name != "state"),
        "rules": rules,
        "hosts": hosts,
        "can_acknowledge": any(each.is_open and each.acknowledged_at is None for each in page.object_list),
        "bulk": bulk,
    }
    return render(request, "monitoring/alerts.html", context)


@require_POST
def acknowledge_several(request: HttpRequest) -> HttpResponse:
    """The chosen ones of the list, to their ends; those that were resolved meanwhile are left."""
    form = BulkForm(request.POST, open_ids=selectors.open_alerts().values_list("pk", flat=True))
    if not form.is_valid():
        return _alerts_page(request, form)
    n, now = 0, timezone.now()
    for alert_id in form.cleaned_data["ids"]:
        try:
            services.acknowledge(
                alert_id, who=_who(request), note=form.cleaned_data["note"], until=None, now=now
            )
        except services.NotOpenError:
            continue
        n += 1
    messages.success(request, f"{n} alert{'' if n == 1 else 's'} acknowledged.")
    return redirect("alerts")


@require_safe
def statistics(request: HttpRequest) -> HttpResponse:
    asked = request.GET.get("days", "")
    days = int(asked) if asked in ("1", "7", "30", "90") else 7
    found = selectors.alert_statistics(timezone.now(), days)
    return render(
        request, "monitoring/statistics.html", {"found": found, "days": days, "choices": (1, 7, 30, 90)}
    )


@require_safe
def strip(request: HttpRequest) -> HttpResponse:
    return render(request, "monitoring/strip.html", {"refreshed": True})


@require_safe
def alert(request: HttpRequest, alert_id: int) -> HttpResponse:
    return _alert_page(request, alert_id)


def _alert_page(request: HttpRequest, alert_id: int, **forms: Form) -> HttpResponse:
    """The page; `forms` are those that came back with errors."""
    found = get_object_or_404(Alert.objects.select_related("rule"), pk=alert_id)
    context: dict[str, Any] = {
        "alert": found,
        "entries": found.entries.all(),
        "steps": found.steps.prefetch_related("channels"),
        "deliveries": found.deliveries.select_related("config"),
        "chart": charts.episode_chart(found, timezone.now()),
        "acknowledge_form": AcknowledgeForm(),
        "note_form": NoteForm(),
        "resolve_form": ResolveForm(),
        **forms,
    }
    return render(request, "monitoring/alert.html", context)


@require_POST
def acknowledge(request: HttpRequest, alert_id: int) -> HttpResponse:
    form = AcknowledgeForm(request.POST)
    if not form.is_valid():
        return _alert_page(request, alert_id, acknowledge_form=form)
    now = timezone.now()
    until = form.until(now)
    try:
        services.acknowledge(
            alert_id, who=_who(request), note=form.cleaned_data["note"], until=until, now=now
        )
    except services.NotOpenError:
        return _is_over(request, alert_id)
    return redirect("alert", alert_id)


@require_POST
def withdraw(request: HttpRequest, alert_id: int) -> HttpResponse:
    try:
        services.withdraw_acknowledgement(alert_id, who=_who(request), now=timezone.now())
    except services.NotOpenError:
        return _is_over(request, alert_id)
    return redirect("alert", alert_id)


@require_POST
def note(request: HttpRequest, alert_id: int) -> HttpResponse:
    found, form = get_object_or_404(Alert, pk=alert_id), NoteForm(request.POST)
    if not form.is_valid():
        return _alert_page(request, alert_id, note_form=form)
    services.add_note(found, who=_who(request), text=form.cleaned_data["text"], now=timezone.now())
    return redirect("alert", alert_id)


@require_POST
def resolve(request: HttpRequest, alert_id: int) -> HttpResponse:
    form = ResolveForm(request.POST)
    if not form.is_valid():
        return _alert_page(request, alert_id, resolve_form=form)
    try:
        services.resolve(alert_id, who=_who(request), note=form.cleaned_data["why"], now=timezone.now())
    except services.NotOpenError:
        return _is_over(request, alert_id)
    return redirect("alert", alert_id)


def silences(request: HttpRequest) -> HttpResponse:
    """The list, and the form of a new one: filled in for ?alert=ID."""
    now = timezone.now()
    if request.method == "POST":
        form = SilenceForm(request.POST, now=now, author=_who(request))
        if form.is_valid():
            services.create_silence(form.instance)
            messages.success(request, "The silence is set.")
            return redirect("silences")
    else:
        form = SilenceForm(initial=_of_alert(request.GET.get("alert", "")), now=now, author=_who(request))
    current, past = selectors.silences(now)
    rows = [
        (each, each.is_active(now), selectors.silenced_by(each), each.windows(now, each.end, SHOWN_WINDOWS))
        for each in current
    ]
    context = {"form": form, "current": rows, "past": past}
    return render(request, "monitoring/silences.html", context)


def _of_alert(alert_id: str) -> dict[str, str]:
    found = Alert.objects.filter(pk=alert_id).first() if alert_id.isdecimal() else None
    if found is None:
        return {}
    lines = [f'{label}="{value}"' for label, value in sorted(found.labels.items()) if label != "metric"]
    return {"matchers": "\n".join(lines)}


@require_safe
def silence_fits(request: HttpRequest) -> HttpResponse:
    """What a silence would hold back now, would have held back lately, and when, while it is typed."""
    now, data = timezone.now(), request.GET.copy()
    data["reason"] = "not asked for yet"
    form, error = SilenceForm(data, now=now, author=_who(request)), ""
    silence = form.instance
    context: dict[str, Any] = {}
    try:
        typed = data.get("matchers", "")[:1000]
        if parse_matchers(typed, typed=True):
            silence.matchers = typed
            context = {
                "fitting": selectors.silenced_by(silence),
                "lately": selectors.fired_lately(silence, now),
            }
    except SelectorError as found:
        error = str(found)
    if not error and form.is_valid():
        context |= {"silence": silence, "windows": silence.windows(now, silence.end, SHOWN_WINDOWS)}
    elif not error:
        error = " ".join(
            str(each) for name in ("often", "rrule", "start", "end") for each in form.errors.get(name, [])
        )
    return render(request, "monitoring/silence_fits.html", {**context, "error": error})


@require_POST
def end_silence(request: HttpRequest, silence_id: int) -> HttpResponse:
    get_object_or_404(Silence, pk=silence_id)
    services.end_silence(silence_id, now=timezone.now())
    return redirect("silences")


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _is_over(request: HttpRequest, alert_id: int) -> HttpResponse:
    get_object_or_404(Alert, pk=alert_id)
    messages.warning(request, "This alert has been resolved meanwhile; nothing was changed.")
    return redirect("alert", alert_id)
