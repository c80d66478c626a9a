"""Rules and silences as YAML: written, read with every mistake named, and compared with what is stored before it is taken.

A file says whole rules: what it leaves out is the default. Rules are known by their names, default ones by `default`;
what the file doesn't name stays."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml
from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.dateparse import parse_datetime

from monitoring.alerts import services
from monitoring.alerts.conditions import Kind
from monitoring.alerts.machine import Severity
from monitoring.alerts.rule_form import FIELD_KINDS, RuleForm
from monitoring.models import Rule, Silence

MOST_CHARS, MOST_ENTRIES = 1_000_000, 2000
SEVERITIES = {each.name.lower(): int(each) for each in Severity}
SILENCE_KEYS = ("matchers", "from", "to", "repeats", "zone", "lasts_s", "reason", "author")


class AlertsFileError(ValueError):
    """One line a problem, each naming its rule or silence and its field."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class FileRuleForm(RuleForm):
    """The form of the page; members and policies are names, since the file may bring them itself."""

    def __init__(self, *args: Any, names: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["members"] = forms.MultipleChoiceField(
            choices=[(name, name) for name in names],
            required=False,
            error_messages={"invalid_choice": "%(value)s is no rule that it can join."},
        )
        policy: Any = self.fields["policy"]
        policy.to_field_name = "name"
        policy.error_messages["invalid_choice"] = "There is no such escalation policy: set it up first."

    def _save_m2m(self) -> None:
        raise NotImplementedError("members are set by `take`")


@dataclass
class Entry:
    """What taking one rule or silence would do. `changes`: (field, before, after)."""

    what: str
    name: str
    status: str  # new, changed, same, over
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    rule: Rule | None = None
    members: list[str] = field(default_factory=list)
    silence: Silence | None = None


def write(now: datetime) -> str:
    """All rules, and the silences that are not over."""
    rules = [_row(rule, _members_of(rule)) for rule in Rule.objects.prefetch_related("members")]
    silences = [_silence_row(each) for each in Silence.objects.filter(end__gt=now).order_by("start", "pk")]
    return yaml.safe_dump(
        {"rules": rules, "silences": silences}, sort_keys=False, allow_unicode=True, width=110
    )


def read(text: str, *, who: str, now: datetime) -> list[Entry]:
    """What taking the file would change; nothing is changed here. Raises AlertsFileError."""
    tree = _tree(text)
    services.keep_default_rules()  # so that `default` finds its rule on a fresh installation, too
    problems: list[str] = []
    rows = _named(tree.get("rules") or [], problems)
    stored = {rule.name: rule for rule in Rule.objects.prefetch_related("members")}
    composites = {name for name, row in rows.items() if row.get("kind") == Kind.COMPOSITE}
    composites |= {name for name, each in stored.items() if each.kind == Kind.COMPOSITE and name not in rows}
    joinable = sorted({*stored, *rows} - composites)
    entries = [_rule_entry(name, row, stored, joinable, problems) for name, row in rows.items()]
    silences = tree.get("silences") or []
    entries += [_silence_entry(place, row, who, now, problems) for place, row in enumerate(silences)]
    if not entries and not problems:
        problems.append("the file has neither rules nor silences.")
    if problems:
        raise AlertsFileError(problems)
    return [each for each in entries if each is not None]


@transaction.atomic
def take(entries: list[Entry], *, who: str, now: datetime) -> int:
    """Store what `read` found new or changed; returns how many."""
    wanted = [each for each in entries if each.status in ("new", "changed")]
    for entry in wanted:
        if entry.rule is not None:
            services.save_rule(entry.rule, who, now, [])
    for entry in wanted:
        if entry.rule is not None and entry.members:
            members = list(Rule.objects.filter(name__in=entry.members))
            services.save_rule(entry.rule, who, now, members)
        if entry.silence is not None:
            services.create_silence(entry.silence)
    return len(wanted)


def _members_of(rule: Rule) -> list[str]:
    return sorted(each.name for each in rule.members.all()) if rule.kind == Kind.COMPOSITE else []


def _row(rule: Rule, members: list[str]) -> dict[str, Any]:
    """Of a rule what its condition needs and what differs from the defaults, in the order of the form."""
    found: dict[str, Any] = {"name": rule.name}
    if rule.key:
        found["default"] = rule.key
    usual = _values(Rule(), [])
    for name, value in _values(rule, members).items():
        needed = rule.kind in FIELD_KINDS.get(name, rule.kind).split()
        if name == "kind" or (value != usual[name] and needed):
            found[name] = value
    return found


def _values(rule: Rule, members: list[str]) -> dict[str, Any]:
    form = RuleForm(instance=rule)
    found = {
        name: form.initial.get(name, form.fields[name].initial) for name in form.fields if name != "name"
    }
    return {
        **found,
        "members": members,
        "policy": rule.policy.name if rule.policy is not None else None,
        "severity": Severity(rule.severity).name.lower(),
        "kind": str(rule.kind),
        "aggregate": str(rule.aggregate),
        "no_data": str(rule.no_data),
    }


def _tree(text: str) -> dict[str, Any]:
    if len(text) > MOST_CHARS:
        raise AlertsFileError([f"the file has more than {MOST_CHARS} characters."])
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AlertsFileError([f"not valid YAML: {error}"]) from error
    if not isinstance(tree, dict) or not set(tree) <= {"rules", "silences"}:
        raise AlertsFileError(
            ["the file must be a mapping with the keys 'rules' and 'silences', or one of them."]
        )
    for key, rows in tree.items():
        if rows is not None and not isinstance(rows, list):
            raise AlertsFileError([f"{key}: must be a list."])
        if rows and len(rows) > MOST_ENTRIES:
            raise AlertsFileError([f"{key}: more than {MOST_ENTRIES} entries."])
    return tree


def _named(rows: list[Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            problems.append(f"rules[{place}]: name: every rule is a mapping with a name.")
        elif row["name"] in found:
            problems.append(f"rule {row['name']}: name: it stands twice in the file.")
        else:
            found[row["name"]] = row
    return found


def _rule_entry(
    name: str, row: dict[str, Any], stored: dict[str, Rule], joinable: list[str], problems: list[str]
) -> Entry | None:
    where, key = f"rule {name}", row.get("default")
    before = stored.get(name)
    if key is not None:
        before = next((rule for rule in stored.values() if rule.key == key), None)
        if before is None:
            problems.append(f"{where}: default: there is no default rule {key!r}.")
            return None
    usual = _values(Rule(), [])
    unknown = set(row) - set(usual) - {"name", "default"}
    problems += [
        f"{where}: {each}: no such field; look for a spelling mistake." for each in sorted(map(str, unknown))
    ]
    if unknown:
        return None
    given = {**usual, **{each: value for each, value in row.items() if each not in ("name", "default")}}
    if given["severity"] not in SEVERITIES:
        problems.append(f"{where}: severity: {given['severity']!r} is none of {', '.join(SEVERITIES)}.")
        return None
    members = given["members"] if isinstance(given["members"], list) else [given["members"]]
    sent: dict[str, Any] = {
        each: _sent(value) for each, value in given.items() if value is not None and value is not False
    }
    sent |= {
        "name": name,
        "severity": SEVERITIES[given["severity"]],
        "members": [str(each) for each in members],
    }
    fresh = Rule.objects.get(pk=before.pk) if before is not None else Rule()
    form = FileRuleForm(sent, instance=fresh, names=[each for each in joinable if each != name])
    if not form.is_valid():
        problems += [f"{where}: {each}: {' '.join(map(str, found))}" for each, found in form.errors.items()]
        return None
    names = sorted(form.cleaned_data["members"]) if form.instance.kind == Kind.COMPOSITE else []
    entry = Entry("rule", name, "new", rule=form.instance, members=names)
    after = _row(form.instance, names)
    if before is None:
        entry.changes = [(each, "", _shown(value)) for each, value in after.items() if each != "name"]
        return entry
    old = _row(before, _members_of(before))
    fields = dict.fromkeys([*old, *after])
    entry.changes = [
        (each, _shown(old.get(each, usual.get(each))), _shown(after.get(each, usual.get(each))))
        for each in fields
        if old.get(each, usual.get(each)) != after.get(each, usual.get(each))
    ]
    entry.status = "changed" if entry.changes else "same"
    return entry


def _silence_row(silence: Silence) -> dict[str, Any]:
    repeats = {"repeats": silence.rrule, "zone": silence.zone, "lasts_s": silence.length_s}
    return {
        "matchers": silence.matchers,
        "from": _instant(silence.start),
        "to": _instant(silence.end),
        **(repeats if silence.rrule else {}),
        "reason": silence.reason,
        "author": silence.author,
    }


def _sent(value: Any) -> str:
    return "on" if value is True else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _silence_entry(place: int, row: Any, who: str, now: datetime, problems: list[str]) -> Entry | None:
    where = f"silences[{place}]"
    if not isinstance(row, dict):
        problems.append(f"{where}: must be a mapping.")
        return None
    unknown = sorted(str(each) for each in row if each not in SILENCE_KEYS)
    problems += [f"{where}: {each}: no such field; look for a spelling mistake." for each in unknown]
    silence = Silence(
        matchers=str(row.get("matchers") or "").strip(),
        reason=str(row.get("reason") or ""),
        author=str(row.get("author") or who)[:150],
        rrule=str(row.get("repeats") or ""),
        zone=str(row.get("zone") or "UTC"),
        told_to=now,
    )
    wrong, length = bool(unknown), row.get("lasts_s")
    if length is not None and (not isinstance(length, int) or length <= 0):
        problems.append(f"{where}: lasts_s: give whole seconds.")
        wrong = True
    else:
        silence.length_s = length
    for key, name in (("from", "start"), ("to", "end")):
        try:
            setattr(silence, name, _read_instant(row.get(key)))
        except ValueError as error:
            problems.append(f"{where}: {key}: {error}")
            wrong = True
    if wrong:
        return None
    try:
        silence.full_clean()
    except ValidationError as error:
        names = {"start": "from", "end": "to", "rrule": "repeats", "length_s": "lasts_s"}
        problems += [
            f"{where}: {names.get(each, each)}: {' '.join(found)}"
            for each, found in error.message_dict.items()
        ]
        return None
    values = {each.name: getattr(silence, each.name) for each in Silence._meta.concrete_fields}
    same = {name: value for name, value in values.items() if name not in ("id", "closed", "told_to")}
    status = "same" if Silence.objects.filter(**same).exists() else "over" if silence.end <= now else "new"
    changes = (
        [] if status != "new" else [(key, "", _shown(row.get(key))) for key in SILENCE_KEYS if row.get(key)]
    )
    return Entry("silence", silence.matchers.replace("\n", ", "), status, changes, silence=silence)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_instant(value: Any) -> datetime:
    """A YAML timestamp or text; without a zone it is UTC."""
    try:
        found = value if isinstance(value, datetime) else parse_datetime(str(value))
    except ValueError:
        found = None
    if found is None:
        raise ValueError("give date and time, such as 2026-01-31T18:30:00Z.")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
