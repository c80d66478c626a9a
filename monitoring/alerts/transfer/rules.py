"""Rules in the file."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms

from monitoring.alerts import services
from monitoring.alerts.conditions import Kind
from monitoring.alerts.machine import Severity
from monitoring.alerts.rule_form import FIELD_KINDS, RuleForm
from monitoring.alerts.transfer.entries import Entry, File, said, sent
from monitoring.models import EscalationPolicy, Rule

Policy = str | bool | None  # its name; False: the rule wants none; None: the default one


class FileRuleForm(RuleForm):
    """The form of the page; members are names, since the file may bring them itself, and so is the policy, which is
    no part of it."""

    def __init__(self, *args: Any, names: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["members"] = forms.MultipleChoiceField(
            choices=[(name, name) for name in names],
            required=False,
            error_messages={"invalid_choice": "%(value)s is no rule that it can join."},
        )
        del self.fields["policy"]

    def _save_m2m(self) -> None:
        raise NotImplementedError("members are set by who stores it")


def rows() -> list[dict[str, Any]]:
    stored = Rule.objects.select_related("policy").prefetch_related("members")
    return [_row(rule, _members_of(rule), _policy_of(rule)) for rule in stored]


def entries(file: File) -> list[Entry]:
    """Composites after what they join."""
    services.keep_default_rules()  # so that `default` finds its rule on a fresh installation, too
    given = file.named("rules", "rule")
    stored = {rule.name: rule for rule in Rule.objects.select_related("policy").prefetch_related("members")}
    composites = {name for name, (_, row) in given.items() if row.get("kind") == Kind.COMPOSITE}
    known = composites | {
        name for name, each in stored.items() if each.kind == Kind.COMPOSITE and name not in given
    }
    joinable = sorted({*stored, *given} - known)
    policies = [*EscalationPolicy.objects.values_list("name", flat=True)]
    policies += [str(row.get("name")) for _, row in file.rows("policies") if isinstance(row, dict)]
    order = sorted(given, key=lambda name: name in composites)
    found = [_entry(file, name, *given[name], stored, joinable, policies) for name in order]
    return [each for each in found if each is not None]


def _members_of(rule: Rule) -> list[str]:
    return sorted(each.name for each in rule.members.all()) if rule.kind == Kind.COMPOSITE else []


def _policy_of(rule: Rule) -> Policy:
    return False if rule.no_policy else rule.policy.name if rule.policy is not None else None


def _row(rule: Rule, members: list[str], policy: Policy) -> dict[str, Any]:
    """Of a rule what its condition needs and what differs from the defaults, in the order of the form."""
    found: dict[str, Any] = {"name": rule.name}
    if rule.key:
        found["default"] = rule.key
    usual = _values(Rule(), [], None)
    for name, value in _values(rule, members, policy).items():
        needed = rule.kind in FIELD_KINDS.get(name, rule.kind).split()
        if name == "kind" or (value != usual[name] and needed):
            found[name] = value
    return found


def _values(rule: Rule, members: list[str], policy: Policy) -> dict[str, Any]:
    form = RuleForm(instance=rule)
    found = {
        name: form.initial.get(name, form.fields[name].initial) for name in form.fields if name != "name"
    }
    return {
        **found,
        "members": members,
        "policy": policy,
        "severity": Severity(rule.severity).name.lower(),
        "kind": str(rule.kind),
        "aggregate": str(rule.aggregate),
        "no_data": str(rule.no_data),
    }


def _entry(
    file: File,
    name: str,
    where: str,
    row: dict[str, Any],
    stored: dict[str, Rule],
    joinable: list[str],
    policies: list[str],
) -> Entry | None:
    key, before = row.get("default"), stored.get(name)
    if key is not None:
        before = next((rule for rule in stored.values() if rule.key == key), None)
        if before is None:
            file.say(where, "default", f"there is no default rule {key!r}.")
            return None
    usual = _values(Rule(), [], None)
    if not file.knows_fields(where, row, usual, ("name", "default")):
        return None
    given = {**usual, **{each: value for each, value in row.items() if each not in ("name", "default")}}
    severity = file.severity(where, "severity", given["severity"])
    policy: Policy = given.pop("policy")
    wrong = policy is not None and policy is not False and policy not in policies
    if wrong:
        file.say(where, "policy", f"There is no such escalation policy: {policy}. 'no' means none.")
    if severity is None or wrong:
        return None
    members = given["members"] if isinstance(given["members"], list) else [given["members"]]
    values = {
        **sent(given), "name": name, "severity": severity, "members": [str(each) for each in members]
    }  # fmt: skip
    fresh = Rule.objects.get(pk=before.pk) if before is not None else Rule()
    form = FileRuleForm(values, instance=fresh, names=[each for each in joinable if each != name])
    if not form.is_valid():
        for each, errors in form.errors.items():
            file.say(where, each, said(errors))
        return None
    rule = form.instance
    names = sorted(form.cleaned_data["members"]) if rule.kind == Kind.COMPOSITE else []

    def store(who: str, now: datetime) -> None:
        rule.no_policy = policy is False
        rule.policy = EscalationPolicy.objects.get(name=policy) if policy else None
        services.save_rule(rule, who, now, list(Rule.objects.filter(name__in=names)))

    entry = Entry("rule", name, store)
    old = _row(before, _members_of(before), _policy_of(before)) if before is not None else None
    entry.compare(old, _row(rule, names, policy), usual)
    return entry
