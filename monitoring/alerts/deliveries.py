"""Empties the outbox: lease a row, send, mark it. Killed anywhere in between, the row is sent again under the same key."""

import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, prefetch_related_objects

from monitoring import news
from monitoring.alerts.channel_services import attempt
from monitoring.alerts.configured import channel_of, link_to
from monitoring.alerts.notices import NoticeEvent
from monitoring.channels import CHANNELS, FALLBACK, Channel, ChannelError, Notice
from monitoring.models import Alert, Delivery
from monitoring.models.delivery import GIVE_UP_AFTER, DeliveryStatus

LEASE_S = 60.0
FIRST_PAUSE_S, MOST_PAUSE_S = 5.0, 900.0
MOST_IN_GROUP = 20
MAX_WAITING = 1000  # looked at in one go; of more, those that could go now
AT_ONCE = 2  # sends of one channel: a receiver that hangs must not take every thread of the worker
MOST_RETRY_AFTER_S = 6 * 3600.0
TRIES, PAUSE_S = 30, 1.0  # while the database is away; less than what a lease leaves
Found = TypeVar("Found")
log = logging.getLogger(__name__)


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
    one summary, not the past. What quiet hours hold back waits for their end, and is folded then. A fire takes those with
    it that wait for others of its host and channel: they are leased together and told in one message."""
    waiting = Delivery.objects.select_for_update(of=("self",)).filter(status=DeliveryStatus.WAITING)
    found = list(waiting.order_by("id")[:MAX_WAITING])  # alert and channel are read of few of them
    if len(found) == MAX_WAITING:
        found = list(waiting.filter(_could_go(now)).order_by("id"))
    episodes: dict[object, list[Delivery]] = defaultdict(list)
    for row in found:
        alone = row.pk if row.event == NoticeEvent.UNDELIVERED else None
        episodes[row.alert_id, row.channel, alone].append(row)
    leased = [row for rows in episodes.values() for row in rows if _is_leased(row, now)]
    busy = Counter(channel for channel, _ in {(row.channel, row.group or row.key) for row in leased})
    for rows in episodes.values():
        newest = rows[-1]
        if (
            any(_is_leased(row, now) for row in rows)
            or not _is_due(newest, now)
            or busy[newest.channel] >= AT_ONCE
        ):
            continue
        if _keep_quiet(rows, now):
            continue
        for each in _together(rows, list(episodes.values()), now):
            _lease_episode(each, now)
        return newest
    return None


def _could_go(now: datetime) -> Q:
    """What is leased, and the first of those that could go now with all of their episodes: a thousand that wait for the
    end of quiet hours, or for a receiver that hangs, must not stand before the others."""
    waiting = Delivery.objects.filter(status=DeliveryStatus.WAITING)
    leased = Q(locked_until__gt=now, locked_until__lte=now + timedelta(seconds=LEASE_S))
    under_way = waiting.filter(leased).values_list("channel", "group", "key")
    sends = Counter(channel for channel, _ in {(channel, group or key) for channel, group, key in under_way})
    full = [channel for channel, n in sends.items() if n >= AT_ONCE]
    newer = waiting.filter(alert=OuterRef("alert"), channel=OuterRef("channel"), pk__gt=OuterRef("pk"))
    decides = Q(event=NoticeEvent.UNDELIVERED) | ~Exists(newer.exclude(event=NoticeEvent.UNDELIVERED))
    set_back = now + timedelta(seconds=LEASE_S)
    due = Q(due_at__lte=now) | Q(failed_at__gt=set_back) | Q(failed_at=None, created_at__gt=set_back)
    free = waiting.filter(decides, due).exclude(leased).exclude(channel__in=full)
    pairs = set(free.order_by("id").values_list("alert", "channel")[:MAX_WAITING])
    alerts, channels = {alert for alert, _ in pairs}, {channel for _, channel in pairs}
    return leased | Q(alert__in=alerts, channel__in=channels)


def _lease_episode(rows: list[Delivery], now: datetime) -> None:
    newest = rows[-1]
    if len(rows) > 1:
        _fold(rows[:-1], newest)
    newest.locked_until = now + timedelta(seconds=LEASE_S)
    newest.attempts += 1
    newest.save(update_fields=["locked_until", "attempts", "text", "give_up_at", "group"])


def _together(rows: list[Delivery], episodes: list[list[Delivery]], now: datetime) -> list[list[Delivery]]:
    """The episodes whose newest notices go out in one message with that of `rows`. Once tried, a message keeps its
    key, and nothing joins it: a receiver that knows the key would not look at it again."""
    newest = rows[-1]
    if newest.group:
        return [each for each in episodes if each[-1].group == newest.group]
    others = [each for each in episodes if each is not rows and _may_join(each, newest, now)]
    prefetch_related_objects([each[-1] for each in (rows, *others)], "alert", "config")
    others = [each for each in others if _is_of(newest.alert.host, each[-1], now)]
    found = [rows, *others[: MOST_IN_GROUP - 1]]
    if len(found) > 1:
        for each in found:
            each[-1].group = f"group:{newest.key}"
    return found


def _is_fresh(row: Delivery) -> bool:
    return row.may_group and not (row.group or row.attempts or row.reason)


def _may_join(rows: list[Delivery], first: Delivery, now: datetime) -> bool:
    newest = rows[-1]
    return (
        _is_fresh(first)
        and _is_fresh(newest)
        and newest.channel == first.channel
        and not any(_is_leased(row, now) for row in rows)
    )


def _is_of(host: str, row: Delivery, now: datetime) -> bool:
    """Whether it is of that host, and not kept quiet."""
    quiet = row.config is not None and row.config.quiet_until(row.alert.severity, now) is not None
    return row.alert.host == host and not quiet


def _is_leased(row: Delivery, now: datetime) -> bool:
    """A lease that ends later than one could that was taken now is of a clock that has been set back since."""
    until = row.locked_until
    return until is not None and now < until <= now + timedelta(seconds=LEASE_S)


def _is_due(row: Delivery, now: datetime) -> bool:
    """What was written, or failed, at a time that is still to come is of a clock that has been set back since: waiting
    for it again could take days."""
    return row.due_at <= now or (row.failed_at or row.created_at) > now + timedelta(seconds=LEASE_S)


def _keep_quiet(rows: list[Delivery], now: datetime) -> bool:
    """Whether the channel's quiet hours hold this episode back; its notices are due at their end then."""
    newest = rows[-1]
    config = newest.config
    until = config.quiet_until(newest.alert.severity, now) if config is not None else None
    if config is None or until is None:
        return False
    newest.due_at = until
    newest.group = ""  # the others go without it, and it goes under its own key
    newest.reason = f"quiet hours until {until.astimezone(ZoneInfo(config.zone)):%H:%M} {config.zone}"
    newest.save(update_fields=["due_at", "group", "reason"])
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
    rows = _insist(lambda: list(_leased_with(delivery).select_related("alert").order_by("id"))) or [delivery]
    error = attempt(lambda: _channel_of(delivery), _notice_of(rows))
    _insist(lambda: _note(delivery, error, len(rows), clock()))


def _insist(work: Callable[[], Found]) -> Found:
    """A database that is away for a moment, say for a restart, is no reason to send again what has arrived."""
    for _ in range(TRIES):
        try:
            return work()
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block:
                raise  # the caller's transaction is gone with its connection
            log.warning("a delivery waits for the database: %s", error)
            connection.close()
            time.sleep(PAUSE_S)
    return work()


def _note(delivery: Delivery, error: ChannelError | None, n: int, now: datetime) -> None:
    if error is not None:
        _failed(delivery, error, now)
        return
    told = {"reason": f"in one message with {n - 1} more"} if n > 1 else {}
    _mark(delivery, status=DeliveryStatus.SENT, sent_at=now, **told)


def _notice_of(rows: list[Delivery]) -> Notice:
    """Of one row; of several the list of what they say, under the key of their group, as severe as the worst."""
    first = rows[0]
    worst = max((row.alert for row in rows), key=lambda alert: alert.severity)
    text, labels, group = first.text, first.alert.labels, tuple[str, ...]()
    if len(rows) > 1:
        text = "\n".join([f"{len(rows)} alerts on {first.alert.host}:", *(f"- {row.text}" for row in rows)])
        labels, group = {"host": first.alert.host}, tuple(row.key for row in rows)
    return Notice(
        key=first.group or first.key,
        event=first.event,
        alert_id=first.alert_id,
        severity=worst.severity_name,
        labels=labels,
        text=text,
        at=first.created_at,
        attempt=first.attempts,
        group=group,
        link=link_to("alerts") if group else link_to("alert", first.alert_id),
    )


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
            rows = list(
                _leased_with(delivery).select_for_update(of=("self",)).select_related("alert", "config")
            )
            _mark(delivery, status=DeliveryStatus.DEAD, last_error=said, failed_at=now)
            for row in rows:
                if row.channel != FALLBACK:
                    _tell_fallback(row, said, now)
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


def _leased_with(delivery: Delivery) -> QuerySet[Delivery]:
    """It, and what goes out in one message with it; nothing once the lease is no longer ours."""
    ours = Delivery.objects.filter(
        channel=delivery.channel, status=DeliveryStatus.WAITING, locked_until=delivery.locked_until
    )
    return ours.filter(group=delivery.group) if delivery.group else ours.filter(pk=delivery.pk)


def _mark(delivery: Delivery, **values: object) -> None:
    """Only while the lease is still ours."""
    alerts = set(_leased_with(delivery).values_list("alert_id", flat=True))
    _leased_with(delivery).update(locked_until=None, **values)
    for alert_id in alerts or {delivery.alert_id}:
        news.tell("alert", alert_id)


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
