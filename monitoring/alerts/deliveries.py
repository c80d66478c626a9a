"""Empties the outbox: lease a row, send, mark it. Killed anywhere in between, the row is sent again under the same key."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction

from monitoring import news
from monitoring.alerts.channel_services import attempt
from monitoring.alerts.configured import channel_of
from monitoring.alerts.notices import NoticeEvent
from monitoring.channels import CHANNELS, FALLBACK, Channel, ChannelError, Notice
from monitoring.models import Alert, Delivery
from monitoring.models.delivery import GIVE_UP_AFTER, DeliveryStatus

LEASE_S = 60.0
FIRST_PAUSE_S, MOST_PAUSE_S = 5.0, 900.0
MAX_WAITING = 1000  # looked at in one go
AT_ONCE = 2  # sends of one channel: a receiver that hangs must not take every thread of the worker
MOST_RETRY_AFTER_S = 6 * 3600.0


def deliver_due(clock: Callable[[], datetime]) -> int:
    """Send whatever is due; returns how many were tried."""
    n = 0
    while (delivery := lease(clock())) is not None:
        send(delivery, clock)
        n += 1
    return n


@transaction.atomic
def lease(now: datetime) -> Delivery | None:
    """The next delivery that is due, leased for LEASE_S; None when there is none.

    Notices of one episode go to a channel in order. What waits behind a newer one is folded into it: who was away gets
    one summary, not the past. What quiet hours hold back waits for their end, and is folded then."""
    waiting = Delivery.objects.select_for_update(of=("self",)).filter(status=DeliveryStatus.WAITING)
    groups: dict[object, list[Delivery]] = defaultdict(list)
    for row in waiting.select_related("alert", "config").order_by("id")[:MAX_WAITING]:
        alone = row.pk if row.event == NoticeEvent.UNDELIVERED else None
        groups[row.alert_id, row.channel, alone].append(row)
    busy = Counter(row.channel for rows in groups.values() for row in rows if _is_leased(row, now))
    for rows in groups.values():
        newest = rows[-1]
        if (
            any(_is_leased(row, now) for row in rows)
            or newest.due_at > now
            or busy[newest.channel] >= AT_ONCE
        ):
            continue
        if _keep_quiet(rows, now):
            continue
        if len(rows) > 1:
            _fold(rows[:-1], newest)
        newest.locked_until = now + timedelta(seconds=LEASE_S)
        newest.attempts += 1
        newest.save(update_fields=["locked_until", "attempts", "text", "give_up_at"])
        return newest
    return None


def _is_leased(row: Delivery, now: datetime) -> bool:
    return row.locked_until is not None and row.locked_until > now


def _keep_quiet(rows: list[Delivery], now: datetime) -> bool:
    """Whether the channel's quiet hours hold this episode back; its notices are due at their end then."""
    newest = rows[-1]
    config = newest.config
    until = config.quiet_until(newest.alert.severity, now) if config is not None else None
    if config is None or until is None:
        return False
    newest.due_at = until
    newest.reason = f"quiet hours until {until.astimezone(ZoneInfo(config.zone)):%H:%M} {config.zone}"
    newest.save(update_fields=["due_at", "reason"])
    untried = [row.pk for row in rows if not row.attempts]
    Delivery.objects.filter(pk__in=untried).update(give_up_at=until + GIVE_UP_AFTER)
    news.tell("alert", newest.alert_id)
    return True


def _fold(older: list[Delivery], newest: Delivery) -> None:
    first = older[0].text
    newest.give_up_at = min(
        row.give_up_at for row in (*older, newest)
    )  # repeats don't keep a dead channel alive
    if newest.event == NoticeEvent.RESOLVED:
        newest.text = f"{first}; {newest.text.removeprefix(f'{newest.alert}: ')}"[:1000]
    Delivery.objects.filter(pk__in=[row.pk for row in older]).update(
        status=DeliveryStatus.FOLDED, reason=f"said by {newest.key}", locked_until=None
    )


def send(delivery: Delivery, clock: Callable[[], datetime]) -> None:
    """Send what `lease` gave and mark it; a row that another worker leased meanwhile is left to that one."""
    alert = delivery.alert
    notice = Notice(
        key=delivery.key,
        event=delivery.event,
        alert_id=alert.pk,
        severity=alert.severity_name,
        labels=alert.labels,
        text=delivery.text,
        at=delivery.created_at,
        attempt=delivery.attempts,
    )
    error = attempt(lambda: _channel_of(delivery), notice)
    if error is None:
        _mark(delivery, status=DeliveryStatus.SENT, sent_at=clock())
    else:
        _failed(delivery, error, clock())


def _channel_of(delivery: Delivery) -> Channel:
    if delivery.channel in CHANNELS:
        return CHANNELS[delivery.channel]
    if delivery.config is None:
        raise ChannelError(f"there is no channel {delivery.channel} any more", permanent=True)
    return channel_of(delivery.config)


def pause_s(attempts: int, chance: float) -> float:
    """Full jitter: `chance` (0 to 1) of FIRST_PAUSE_S, doubled with each attempt up to MOST_PAUSE_S."""
    return chance * min(FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 20), MOST_PAUSE_S)


def _failed(delivery: Delivery, error: ChannelError, now: datetime) -> None:
    said = str(error)[:500]
    if error.permanent or now >= delivery.give_up_at:
        with transaction.atomic():
            if (
                _mark(delivery, status=DeliveryStatus.DEAD, last_error=said, failed_at=now)
                and delivery.channel != FALLBACK
            ):
                _tell_fallback(delivery, said, now)
        return
    asked = min(error.retry_after_s, MOST_RETRY_AFTER_S)
    wait = max(pause_s(delivery.attempts, random.random()), asked)
    _mark(delivery, due_at=now + timedelta(seconds=wait), last_error=said, failed_at=now)
    if asked:  # the receiver means all of them
        until = now + timedelta(seconds=asked)
        others = Delivery.objects.filter(
            status=DeliveryStatus.WAITING, channel=delivery.channel, due_at__lt=until
        )
        others.update(due_at=until)


def _mark(delivery: Delivery, **values: object) -> bool:
    """Only while the lease is still ours."""
    ours = Delivery.objects.filter(
        pk=delivery.pk, status=DeliveryStatus.WAITING, locked_until=delivery.locked_until
    )
    marked = bool(ours.update(locked_until=None, **values))
    news.tell("alert", delivery.alert_id)
    return marked


def _tell_fallback(delivery: Delivery, said: str, now: datetime) -> None:
    alert = Alert.objects.select_for_update(of=("self",)).get(pk=delivery.alert_id)
    alert.n_notices += 1
    alert.save(update_fields=["n_notices"])
    Delivery.objects.create(
        alert=alert,
        key=f"{alert.pk}:{NoticeEvent.UNDELIVERED}:{alert.n_notices}:{FALLBACK}",
        channel=FALLBACK,
        event=NoticeEvent.UNDELIVERED,
        text=f"{alert}: {delivery.channel_name} could not deliver {delivery.key}: {said}"[:1000],
        created_at=now,
        due_at=now,
        give_up_at=now + GIVE_UP_AFTER,
    )
