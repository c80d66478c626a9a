"""Questions about alerts."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count, Max, Min, Q, QuerySet

from monitoring.alerts.conditions import Kind, RuleSpec
from monitoring.alerts.configured import channel_of
from monitoring.alerts.machine import Severity
from monitoring.channels import CHANNELS, ChannelError
from monitoring.models import Alert, ChannelConfig, Delivery, Journal, Rule, Series, Silence
from monitoring.models.delivery import DeliveryStatus
from monitoring.models.rule import EVALUATOR_LAG, JUDGED_BY_WORKER

LAST_KEY = "aicleaner:live:last"
TEST_ANSWERS_IN = timedelta(seconds=90)
MOST_LATELY = 1000


def open_alerts() -> QuerySet[Alert]:
    """The most severe first, then the newest."""
    return Alert.objects.filter(resolved_at=None).order_by("-severity", "-fired_at")


def past_alerts() -> QuerySet[Alert]:
    return Alert.objects.exclude(resolved_at=None)


def filtered_alerts(asked: dict[str, Any], now: datetime) -> QuerySet[Alert]:
    """By `state`, and where they are given `severity`, `rule`, `host`, `fired` (seconds back) and `text`."""
    found = {
        "open": open_alerts(),
        "unseen": open_alerts().filter(acknowledged_at=None),
        "acknowledged": open_alerts().exclude(acknowledged_at=None),
        "resolved": past_alerts(),
        "all": Alert.objects.all(),
    }[asked["state"]]
    if asked.get("severity"):
        found = found.filter(severity=asked["severity"])
    if asked.get("rule"):
        found = found.filter(rule_name__iexact=asked["rule"])
    if asked.get("host"):
        found = found.filter(host__iexact=asked["host"])
    if asked.get("fired"):
        found = found.filter(fired_at__gte=now - timedelta(seconds=int(asked["fired"])))
    if text := asked.get("text"):
        found = found.filter(
            Q(rule_name__icontains=text) | Q(series__icontains=text) | Q(host__icontains=text)
        )
    return found


def named_in_alerts() -> tuple[list[str], list[str]]:
    """(rules, hosts) that alerts name."""
    rules = Alert.objects.order_by("rule_name").values_list("rule_name", flat=True).distinct()
    hosts = Alert.objects.order_by("host").values_list("host", flat=True).distinct()
    return list(rules[:200]), list(hosts[:200])


@dataclass(frozen=True)
class NoisyRule:
    name: str
    n: int
    n_acknowledged: int
    lasted_s: float | None  # mean of those that are over


@dataclass(frozen=True)
class AlertStatistics:
    """Of the alerts that fired in a span. Means are None where there is nothing to take them of."""

    n: int
    n_open: int
    by_severity: list[tuple[str, int]]
    n_acknowledged: int
    acknowledged_after_s: float | None
    n_resolved: int
    resolved_after_s: float | None
    noisiest: list[NoisyRule]
    n_flapped: int
    n_held_back: int


def alert_statistics(now: datetime, days: int) -> AlertStatistics:
    fired = Alert.objects.filter(fired_at__gt=now - timedelta(days=days), fired_at__lte=now).order_by()
    seen = Min("entries__at", filter=Q(entries__kind="acknowledged"))
    rows = list(
        fired.annotate(seen=seen).values_list("rule_name", "severity", "fired_at", "seen", "resolved_at")
    )
    waits = [(seen - at).total_seconds() for _, _, at, seen, _ in rows if seen]
    lasted = [(end - at).total_seconds() for _, _, at, _, end in rows if end]
    names = Counter(name for name, *_ in rows)
    noisiest = []
    for name, n in names.most_common(10):
        own = [row for row in rows if row[0] == name]
        ended = [(end - at).total_seconds() for _, _, at, _, end in own if end]
        noisiest.append(NoisyRule(name, n, sum(row[3] is not None for row in own), _mean(ended)))
    severities = Counter(severity for _, severity, *_ in rows)
    deliveries = Delivery.objects.filter(alert__in=fired, event="fired", status="suppressed")
    return AlertStatistics(
        n=len(rows),
        n_open=sum(row[4] is None for row in rows),
        by_severity=[(each.name.lower(), severities.get(each, 0)) for each in reversed(Severity)],
        n_acknowledged=len(waits),
        acknowledged_after_s=_mean(waits),
        n_resolved=len(lasted),
        resolved_after_s=_mean(lasted),
        noisiest=noisiest,
        n_flapped=fired.filter(entries__kind="flapping").distinct().count(),
        n_held_back=deliveries.values("alert").distinct().count(),
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def silences(now: datetime) -> tuple[list[Silence], list[Silence]]:
    """(those that hold something back now or will, the last 20 of the past)."""
    return list(Silence.objects.filter(end__gt=now)), list(Silence.objects.filter(end__lte=now)[:20])


def silenced_by(silence: Silence) -> list[Alert]:
    """Open alerts that its matchers fit."""
    return [alert for alert in open_alerts() if silence.fits(alert.matched_labels)]


def fired_lately(silence: Silence, now: datetime) -> int:
    """How many alerts of the last 7 days its matchers fit."""
    lately = Alert.objects.filter(fired_at__gt=now - timedelta(days=7))[:MOST_LATELY]
    return sum(silence.fits(alert.matched_labels) for alert in lately)


@dataclass(frozen=True)
class RuleRow:
    """A rule as the list shows it. `n_ok` is None where no sample of the last seconds says which series there are."""

    rule: Rule
    n_ok: int | None
    not_ok: dict[str, int]
    last_fired_at: datetime | None
    joined_by: list[str]


def rules_with_states(host: str) -> list[RuleRow]:
    """Each rule with how many of its series are in which state, and when it fired last."""
    counts = Rule.objects.filter(states__isnull=False).values_list("pk", "states__memory__state")
    states: dict[int, dict[str, int]] = {}
    for rule_id, state, n in counts.annotate(n=Count("states")).order_by():
        states.setdefault(rule_id, {})[state.replace("_", " ")] = n
    fired = dict(Alert.objects.exclude(rule=None).values_list("rule").annotate(Max("fired_at")).order_by())
    latest = latest_values(host)
    found = []
    for rule in Rule.objects.prefetch_related("members", "rule_set"):
        spec, known = rule.spec(), states.get(rule.pk, {})
        n = sum(value is not None and spec.selector.fits(name, host) for name, value in latest.items())
        whole = 1 if spec.kind is Kind.COMPOSITE or rule.series in JUDGED_BY_WORKER else n
        n_not_ok = sum(n for state, n in known.items() if state != "ok")
        not_ok = {state: n for state, n in known.items() if state != "ok"}
        n_ok = max(whole - n_not_ok, 0) if latest else None
        joined_by = sorted(each.name for each in rule.rule_set.all())
        found.append(RuleRow(rule, n_ok, not_ok, fired.get(rule.pk), joined_by))
    return found


def latest_values(host: str) -> dict[str, float | None]:
    """The newest sample, if one was taken in the last seconds."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        raw: Any = client.get(LAST_KEY)
    except (redis.RedisError, OSError):
        raw = None
    finally:
        client.close()
    last = json.loads(raw) if raw else {}
    if last.get("host") == host:
        return dict(last["v"])
    return {}


def rules_to_evaluate() -> list[RuleSpec]:
    """Those that are switched on, and those that a composite joins; not what the worker judges."""
    rules = Rule.objects.exclude(series__in=JUDGED_BY_WORKER).prefetch_related("members")
    specs = {rule.pk: rule.spec() for rule in rules}
    joined = {member for spec in specs.values() if not spec.part for member in spec.members}
    return [spec for spec in specs.values() if not spec.part or spec.id in joined]


def series_like(rule: Rule) -> tuple[bool, list[str]]:
    """Whether a stored series fits the rule, and names of metrics that resemble its own."""
    stored = list(Series.objects.values_list("name", "host"))
    selector = rule.spec().selector
    metrics = sorted({name.partition("{")[0] for name, _ in stored})
    words = set(selector.metric.split("_"))
    alike = sorted(metrics, key=lambda metric: -len(words & set(metric.split("_"))))
    there = rule.series in JUDGED_BY_WORKER or any(selector.fits(*each) for each in stored)
    return there, alike[:3]


def newest_sample(valkey: redis.Redis, host: str, now: float) -> tuple[float | None, float | None]:
    """When the newest sample of `host` was taken, by Valkey or the store (None: never, as far as is known), and how
    many seconds the evaluator was behind then (None: unknown)."""
    raw: Any = valkey.get(LAST_KEY)
    last = json.loads(raw) if raw else {}
    if last.get("host") == host:
        return float(last["at"]), last["v"].get(EVALUATOR_LAG)
    stored = (
        Journal.objects.filter(host=host, at__lte=now).order_by("-at").values_list("at", flat=True).first()
    )
    return (None if stored is None else float(stored)), None


@dataclass(frozen=True)
class ChannelHealth:
    """A channel and how it does. `state`: off, unused, ok, failing (the last try failed), broken (can't even try)."""

    key: str
    name: str
    kind: str
    config: ChannelConfig | None  # None: one that is always there
    target: str
    state: str
    succeeded_at: datetime | None
    failed_at: datetime | None
    last_error: str
    n_waiting: int
    n_dead: int
    test: str  # '', asked, lost (no answer came), ok, failed


def channels_with_health(now: datetime) -> list[ChannelHealth]:
    """Those that are always there, then those that were set up, by name. Four queries."""
    status = DeliveryStatus
    counts = Delivery.objects.values("channel").annotate(
        succeeded_at=Max("sent_at"),
        failed_at=Max("failed_at"),
        n_waiting=Count("pk", filter=Q(status=status.WAITING)),
        n_dead=Count("pk", filter=Q(status=status.DEAD)),
    )
    by_key: dict[str, dict[str, Any]] = {each["channel"]: {**each} for each in counts.order_by()}
    failures = Q(pk__in=[])
    for key, each in by_key.items():
        if each["failed_at"] is not None:
            failures |= Q(channel=key, failed_at=each["failed_at"])
    errors = dict(Delivery.objects.filter(failures).order_by("id").values_list("channel", "last_error"))
    configs: list[ChannelConfig | None] = [*(None for _ in CHANNELS), *ChannelConfig.objects.all()]
    names = iter(CHANNELS)
    return [
        _health(config, next(names) if config is None else config.key, by_key, errors, now)
        for config in configs
    ]


def _health(
    config: ChannelConfig | None,
    key: str,
    by_key: dict[str, dict[str, Any]],
    errors: dict[str, str],
    now: datetime,
) -> ChannelHealth:
    nothing = {"succeeded_at": None, "failed_at": None, "n_waiting": 0, "n_dead": 0}
    found = {name: by_key.get(key, nothing)[name] for name in nothing}
    target, broken = "", ""
    if config is not None:
        try:
            target = channel_of(config).target
        except (ChannelError, ValueError) as error:
            broken = str(error)
    ok, failed = found["succeeded_at"], found["failed_at"]
    if config is not None and not config.enabled:
        state = "off"
    elif broken:
        state = "broken"
    elif failed is not None and (ok is None or failed > ok):
        state = "failing"
    else:
        state = "unused" if ok is None else "ok"
    return ChannelHealth(
        key=key,
        name=config.name if config is not None else key,
        kind=config.get_kind_display() if config is not None else "",
        config=config,
        target=target,
        state=state,
        last_error=broken or errors.get(key, ""),
        test=_test_state(config, now),
        **found,
    )


def _test_state(config: ChannelConfig | None, now: datetime) -> str:
    if config is None or config.test_asked_at is None:
        return ""
    if config.tested_at is None:
        return "asked" if now - config.test_asked_at < TEST_ANSWERS_IN else "lost"
    return "failed" if config.test_error else "ok"


def delivery_log(channel: str, status: str) -> QuerySet[Delivery]:
    """The newest first; '' means all, but of states not what was dismissed."""
    found = Delivery.objects.select_related("alert", "config").order_by("-id")
    if channel:
        found = found.filter(channel=channel)
    return found.filter(status=status) if status else found.exclude(status=DeliveryStatus.DISMISSED)
