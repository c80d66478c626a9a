"""Questions about alerts."""

import json
from datetime import datetime
from typing import Any

import redis
from django.db.models import Count, QuerySet

from monitoring.alerts.conditions import RuleSpec
from monitoring.models import Alert, Journal, Rule, Series, Silence
from monitoring.models.rule import SAMPLE_AGE

LAST_KEY = "aicleaner:live:last"


def open_alerts() -> QuerySet[Alert]:
    """The most severe first, then the newest."""
    return Alert.objects.filter(resolved_at=None).order_by("-severity", "-fired_at")


def past_alerts() -> QuerySet[Alert]:
    return Alert.objects.exclude(resolved_at=None)


def silences(now: datetime) -> tuple[list[Silence], list[Silence]]:
    """(those that hold something back now or will, the last 20 of the past)."""
    return list(Silence.objects.filter(end__gt=now)), list(Silence.objects.filter(end__lte=now)[:20])


def silenced_by(silence: Silence) -> list[Alert]:
    """Open alerts that its matchers fit."""
    return [alert for alert in open_alerts() if silence.fits(alert.matched_labels)]


def rules_with_states() -> list[tuple[Rule, dict[str, int]]]:
    """Each rule with how many of its series are in which state; a series that was never anything but ok is in none."""
    counts = Rule.objects.filter(states__isnull=False).values_list("pk", "states__memory__state")
    found: dict[int, dict[str, int]] = {}
    for rule_id, state, n in counts.annotate(n=Count("states")).order_by():
        found.setdefault(rule_id, {})[state] = n
    return [(rule, found.get(rule.pk, {})) for rule in Rule.objects.all()]


def rules_to_evaluate() -> list[RuleSpec]:
    """Those that are switched on, and those that a composite joins; not what the worker judges."""
    rules = Rule.objects.exclude(series=SAMPLE_AGE).prefetch_related("members")
    specs = {rule.pk: rule.spec() for rule in rules}
    joined = {member for spec in specs.values() if not spec.part for member in spec.members}
    return [spec for spec in specs.values() if not spec.part or spec.id in joined]


def series_like(rule: Rule) -> tuple[bool, list[str]]:
    """Whether a stored series fits the rule, and names of metrics that resemble its own."""
    names = list(Series.objects.values_list("name", flat=True))
    selector = rule.spec().selector
    metrics = sorted({name.partition("{")[0] for name in names})
    words = set(selector.metric.split("_"))
    alike = sorted(metrics, key=lambda metric: -len(words & set(metric.split("_"))))
    there = rule.series == SAMPLE_AGE or any(selector.fits(name) for name in names)
    return there, alike[:3]


def newest_sample_at(valkey: redis.Redis, host: str, now: float) -> float | None:
    """When the newest sample of `host` was taken, by Valkey or the store; None: never, as far as is known."""
    raw: Any = valkey.get(LAST_KEY)
    last = json.loads(raw) if raw else {}
    if last.get("host") == host:
        return float(last["at"])
    stored = (
        Journal.objects.filter(host=host, at__lte=now).order_by("-at").values_list("at", flat=True).first()
    )
    return None if stored is None else float(stored)
