"""Pages of rules: everyone reads, staff changes."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import user_passes_test
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from monitoring.alerts import charts, selectors, services, words
from monitoring.alerts.conditions import Kind
from monitoring.alerts.preview import SPAN_S, preview
from monitoring.alerts.rule_form import RuleForm
from monitoring.alerts.series import SelectorError, duration, format_value, parse_selector, unit_of
from monitoring.models import Rule

MOST_SHOWN = 12  # series under the picker
UNNAMED = "(not named yet)"


def _only_staff(user: Any) -> bool:
    if not user.is_staff:
        raise PermissionDenied("Only staff may change rules.")
    return True


staff_only = user_passes_test(_only_staff)


@require_safe
def rules(request: HttpRequest) -> HttpResponse:
    return render(request, "monitoring/rules.html", {"rows": selectors.rules_with_states(settings.HOST_NAME)})


@staff_only
def new_rule(request: HttpRequest) -> HttpResponse:
    """An empty form, or what the address fills in (?series=...&fire_at=...); with ?copy=ID a copy of that rule."""
    asked = request.GET.get("copy", "")
    source = Rule.objects.filter(pk=asked).first() if asked.isdecimal() else None
    rule, members = (services.copy_of(source), source.members.all()) if source else (Rule(), None)
    given = {name: request.GET[name] for name in RuleForm.base_fields if name in request.GET}
    return _edit(request, rule, initial=given if members is None else {"members": members})


def edit_rule(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Who is not staff sees the rule and its preview, and changes nothing."""
    if request.method == "POST":
        _only_staff(request.user)
    return _edit(request, get_object_or_404(Rule, pk=rule_id), initial={})


def _edit(request: HttpRequest, rule: Rule, initial: dict[str, Any]) -> HttpResponse:
    form = RuleForm(request.POST or None, instance=rule, initial=initial)
    if request.method == "POST" and form.is_valid():
        services.save_rule(rule, request.user.get_username(), timezone.now(), form.member_rules())
        messages.success(request, f"The rule {rule.name} is saved; it is used within seconds.")
        _hint(request, rule)
        return redirect("alert-rules")
    stored = Rule.objects.filter(pk=rule.pk).first()
    latest = selectors.latest_values(settings.HOST_NAME)
    context = {
        "form": form,
        "rule": stored,
        "may_delete": stored is not None and stored.key is None,
        "names": [(name, _shown_value(name, value)) for name, value in sorted(latest.items())],
        "metrics": sorted({name.partition("{")[0] for name in latest}),
    }
    return render(request, "monitoring/rule.html", context)


def _hint(request: HttpRequest, rule: Rule) -> None:
    there, alike = selectors.series_like(rule)
    if not there:
        hint = f" Metrics with like names: {', '.join(alike)}." if alike else ""
        messages.warning(request, f"No stored series fits '{rule.series}' so far.{hint}")


@require_POST
def rule_words(request: HttpRequest) -> HttpResponse:
    """The rule in words and the series that fit it now, while its form is filled in."""
    form = _typed(request)
    valid = form.is_valid()
    context: dict[str, Any] = {"errors": [] if valid else _errors(form)}
    if valid:
        context["sentence"] = words.sentence(form.instance, [each.name for each in form.member_rules()])
    context |= _series_now(request.POST.get("series", ""), request.POST.get("kind", ""))
    return render(request, "monitoring/rule_words.html", context)


def _series_now(text: str, kind: str) -> dict[str, Any]:
    if kind == Kind.COMPOSITE or not text:
        return {}
    try:
        selector = parse_selector(text, typed=True)
    except SelectorError:
        return {}  # the form says it beside the field
    latest = selectors.latest_values(settings.HOST_NAME)
    found = [
        (name, _shown_value(name, value))
        for name, value in sorted(latest.items())
        if selector.fits(name, settings.HOST_NAME)
    ]
    return {"fitting": found[:MOST_SHOWN], "n_more": max(len(found) - MOST_SHOWN, 0), "asked_series": True}


def _shown_value(name: str, value: float | None) -> str:
    return format_value(value, unit_of(name.partition("{")[0]))


@require_POST
def rule_preview(request: HttpRequest) -> HttpResponse:
    """The rule as typed, over the samples of the last day."""
    form = _typed(request)
    if not form.is_valid():
        return render(request, "monitoring/rule_preview.html", {"errors": _errors(form)})
    rule, members = form.instance, form.member_rules()
    spec = rule.spec([each.pk for each in members])
    now = int(timezone.now().timestamp())
    found = preview(spec, [each.spec() for each in members], settings.HOST_NAME, now)
    span = "24 h" if found.end - found.start == SPAN_S else duration(found.end - found.start)
    context = {
        "preview": found,
        "span": span,
        "lasted": duration(found.seconds_fired),
        "lines": [
            (line, _shown_compared(rule, line.value), len(line.firings), duration(line.seconds(found.end)))
            for line in found.lines
        ],
        "chart": charts.preview_chart(found, rule, spec) if found.lines else None,
        "composite": rule.kind == Kind.COMPOSITE,
        "short_past": rule.kind in (Kind.DEVIATION, Kind.FORECAST)
        and not any(line.was_compared for line in found.lines),
    }
    return render(request, "monitoring/rule_preview.html", context)


def _shown_compared(rule: Rule, value: float | None) -> str:
    if rule.kind == Kind.NO_DATA:
        return "none" if value is None else "has samples"
    return format_value(value, rule.unit)


def _typed(request: HttpRequest) -> RuleForm:
    """The form as typed, never saved; a name isn't needed yet."""
    asked, data = request.POST.get("rule", ""), request.POST.copy()
    rule = Rule.objects.filter(pk=asked).first() if asked.isdecimal() else None
    data["name"] = rule.name if rule else UNNAMED
    return RuleForm(data, instance=rule or Rule())


def _errors(form: RuleForm) -> list[tuple[str, str]]:
    return [
        (str(form[name].label) if name in form.fields else "", " ".join(map(str, found)))
        for name, found in form.errors.items()
    ]


@staff_only
@require_POST
def switch_rule(request: HttpRequest, rule_id: int) -> HttpResponse:
    rule = get_object_or_404(Rule, pk=rule_id)
    rule.enabled = request.POST.get("enabled") == "on"
    services.save_rule(rule, request.user.get_username(), timezone.now())
    return redirect("alert-rules")


@staff_only
@require_POST
def delete_rule(request: HttpRequest, rule_id: int) -> HttpResponse:
    rule = get_object_or_404(Rule, pk=rule_id)
    if rule.key is not None:
        messages.error(
            request, "A default rule is switched off, not deleted: the next start would create it anew."
        )
    elif joined := list(rule.rule_set.values_list("name", flat=True)):
        messages.error(request, f"{', '.join(joined)} joins this rule: take it out there first.")
    else:
        services.delete_rule(rule, request.user.get_username(), timezone.now())
        messages.success(request, f"The rule {rule.name} is deleted; its past alerts stay.")
    return redirect("alert-rules")
