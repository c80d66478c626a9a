"""Questions about alerts."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from django.db.models import Count, Max, Q, QuerySet

from monitoring.alerts.configured import channel_of
from monitoring.channels import CHANNELS, ChannelError
from monitoring.models import Alert, ChannelConfig, Delivery, Journal, Rule, Series, Silence
from monitoring.models.delivery import DeliveryStatus
from monitoring.models.rule import SAMPLE_AGE

LAST_KEY = "aicleaner:live:last"
TEST_ANSWERS_IN = timedelta(seconds=90)


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
    """The newest first; '' means all."""
    found = Delivery.objects.select_related("alert", "config").order_by("-id")
    if channel:
        found = found.filter(channel=channel)
    return found.filter(status=status) if status else found
