"""Pages of escalation policies; for staff."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from monitoring.alerts import policy_services as services
from monitoring.alerts import words
from monitoring.alerts.channel_views import for_staff
from monitoring.alerts.machine import Severity
from monitoring.alerts.policy_forms import PolicyForm, StepFormSet, Steps
from monitoring.alerts.policy_services import StepValues
from monitoring.models import ChannelConfig, EscalationPolicy, Rule
from monitoring.models.escalation import MOST_STEPS


@require_safe
@for_staff
def policies(request: HttpRequest) -> HttpResponse:
    found = EscalationPolicy.objects.prefetch_related("steps__channels", "rules")
    rows = [(each, words.escalation(_steps_of(each), each.group_wait_s)) for each in found]
    without = Rule.objects.filter(no_policy=True)
    context = {"rows": rows, "any_channel": ChannelConfig.objects.exists(), "without": without}
    return render(request, "monitoring/policies.html", context)


@for_staff
def new(request: HttpRequest) -> HttpResponse:
    return _edit(request, EscalationPolicy())


@for_staff
def edit(request: HttpRequest, policy_id: int) -> HttpResponse:
    return _edit(request, get_object_or_404(EscalationPolicy, pk=policy_id))


def _edit(request: HttpRequest, policy: EscalationPolicy) -> HttpResponse:
    name = policy.name
    if request.method == "POST" and {"add", "remove"} & set(request.POST):
        form, steps = _with_another_number(request.POST, policy)
    elif request.method == "POST":
        form, steps = PolicyForm(request.POST, instance=policy), StepFormSet(request.POST, prefix="steps")
        if all([form.is_valid(), steps.is_valid()]):
            services.save_policy(policy, steps.values())
            messages.success(request, f"{policy.name} is saved; alerts that fire from now on follow it.")
            return redirect("policies")
    else:
        stored = [vars(each) for each in _steps_of(policy)] if policy.pk else []
        stored = stored or [{"after_min": 0}]
        form, steps = PolicyForm(instance=policy), StepFormSet(prefix="steps", initial=stored)
    context = {
        "form": form,
        "steps": steps,
        "policy": policy,
        "name": name,
        "may_add": steps.total_form_count() < MOST_STEPS,
        "any_channel": ChannelConfig.objects.exists(),
    }
    return render(request, "monitoring/policy.html", context)


@require_POST
@for_staff
def policy_words(request: HttpRequest) -> HttpResponse:
    """What is typed, in a sentence."""
    known = request.POST.get("policy", "")
    stored = EscalationPolicy.objects.filter(pk=known).first() if known.isdecimal() else None
    form = PolicyForm(request.POST, instance=stored)
    steps = StepFormSet(request.POST, prefix="steps")
    context: dict[str, Any] = {"errors": []}
    if all([form.is_valid(), steps.is_valid()]):
        context["sentence"] = words.escalation(steps.values(), form.cleaned_data["group_wait_s"])
    else:
        context["errors"] = _errors(form, steps)
    return render(request, "monitoring/policy_words.html", context)


@for_staff
def delete(request: HttpRequest, policy_id: int) -> HttpResponse:
    """Asks, then does it."""
    policy = get_object_or_404(EscalationPolicy, pk=policy_id)
    if request.method == "POST":
        policy.delete()
        messages.success(request, f"{policy.name} is deleted.")
        return redirect("policies")
    return render(request, "monitoring/policy_delete.html", {"policy": policy, "rules": policy.rules.all()})


def _steps_of(policy: EscalationPolicy) -> list[StepValues]:
    return [
        StepValues(each.after_min, Severity(each.least_severity), list(each.channels.all()))
        for each in policy.steps.all()
    ]


def _with_another_number(sent: QueryDict, policy: EscalationPolicy) -> tuple[PolicyForm, Steps]:
    """The forms as typed, with one step more or without one, and not judged yet."""
    total = sent.get("steps-TOTAL_FORMS", "0")
    typed = [
        {
            "after_min": sent.get(f"steps-{place}-after_min"),
            "least_severity": sent.get(f"steps-{place}-least_severity"),
            "channels": sent.getlist(f"steps-{place}-channels"),
        }
        for place in range(min(int(total), MOST_STEPS) if total.isdecimal() else 0)
        if sent.get("remove") != str(place)
    ]
    if "add" in sent and len(typed) < MOST_STEPS:
        typed.append({})
    values = {name: sent.get(name) for name in PolicyForm.Meta.fields}
    return PolicyForm(instance=policy, initial=values), StepFormSet(prefix="steps", initial=typed or [{}])


def _errors(form: PolicyForm, steps: Steps) -> list[tuple[str, str]]:
    found = [(str(form[name].label), str(text)) for name, texts in form.errors.items() for text in texts]
    for number, step in enumerate(steps.forms, 1):
        found += [
            (f"Step {number}, {step[name].label}", str(text))
            for name, texts in step.errors.items()
            for text in texts
        ]
    return found + [("", str(text)) for text in steps.non_form_errors()]
