"""What people do with channels and what lies in their outbox."""

import logging
import traceback
from collections.abc import Callable
from datetime import datetime

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from monitoring import news
from monitoring.alerts.configured import channel_of, link_to
from monitoring.alerts.notices import NOT_TOLD, NoticeEvent, wake_worker
from monitoring.channels import CHANNELS, Channel, ChannelError, Notice
from monitoring.models import ChannelConfig, Delivery
from monitoring.models.delivery import GIVE_UP_AFTER, DeliveryStatus
from safeguards.sealing import channel_secrets

TEST_EXPIRES_S = 60
log = logging.getLogger(__name__)


class NoWorkerError(Exception):
    """The worker can't be reached."""


@transaction.atomic
def save_channel(config: ChannelConfig, secrets: dict[str, str], *, who: str, now: datetime) -> None:
    """What waits for it is tried at once, with the new settings; switched off, it is held back for good."""
    config.sealed = channel_secrets.seal(secrets)
    config.save()
    if config.enabled:
        _waiting(config).update(due_at=now, reason="")
        transaction.on_commit(wake_worker)
    else:
        _hold_back(config, f"the channel was switched off by {who}")
    news.tell("channel", config.pk)


@transaction.atomic
def delete_channel(config: ChannelConfig, *, who: str) -> None:
    """Its deliveries stay in the log."""
    _hold_back(config, f"the channel was deleted by {who}")
    pk = config.pk
    config.delete()
    news.tell("channel", pk)


def _waiting(config: ChannelConfig) -> QuerySet[Delivery]:
    return config.deliveries.filter(status=DeliveryStatus.WAITING)


def _hold_back(config: ChannelConfig, reason: str) -> None:
    _waiting(config).update(status=DeliveryStatus.SUPPRESSED, reason=reason[:200], locked_until=None)


@transaction.atomic
def retry(given_up: QuerySet[Delivery], *, now: datetime) -> int:
    """Let what was given up, dismissed or not, be tried for another day, under its old key. What is folded into a newer
    notice of its episode is said by that one, and so is its end, which the channel was not told. Returns how many; those
    whose channel is gone or off stay."""
    ended = given_up.filter(status__in=(DeliveryStatus.DEAD, DeliveryStatus.DISMISSED))
    there = ended.filter(config__enabled=True) | ended.filter(channel__in=list(CHANNELS))
    rows = list(there.values_list("pk", "alert_id", "channel"))
    again = {
        "status": DeliveryStatus.WAITING,
        "reason": "",
        "group": "",  # each under its own key
        "may_group": False,
        "due_at": now,
        "give_up_at": now + GIVE_UP_AFTER,
        "locked_until": None,
        "dismissed_at": None,
        "dismissed_by": "",
    }
    Delivery.objects.filter(pk__in=[pk for pk, *_ in rows]).update(**again)
    for alert_id, channel in {(alert_id, channel) for _, alert_id, channel in rows}:
        ends = Delivery.objects.filter(alert_id=alert_id, channel=channel, event=NoticeEvent.RESOLVED)
        ends.filter(status=DeliveryStatus.SUPPRESSED, reason=NOT_TOLD).update(**again)
        news.tell("alert", alert_id)
    transaction.on_commit(wake_worker)
    return len(rows)


@transaction.atomic
def dismiss(given_up: QuerySet[Delivery], *, who: str, now: datetime) -> int:
    """Somebody has seen that these were given up: they are counted no more. Returns how many."""
    rows = given_up.select_for_update(of=("self",)).filter(status=DeliveryStatus.DEAD)
    found = dict(rows.values_list("pk", "alert_id"))
    Delivery.objects.filter(pk__in=found).update(
        status=DeliveryStatus.DISMISSED, dismissed_at=now, dismissed_by=who
    )
    for alert_id in set(found.values()):
        news.tell("alert", alert_id)
    return len(found)


def ask_test(config: ChannelConfig, *, now: datetime) -> None:
    """Have the worker send a test: its result comes as news. Raises NoWorkerError."""
    ChannelConfig.objects.filter(pk=config.pk).update(test_asked_at=now, tested_at=None, test_error="")
    try:
        current_app.send_task(
            "monitoring.tasks.deliver_test", (config.pk,), retry=False, expires=TEST_EXPIRES_S
        )
    except (KombuError, OperationalError, RedisError, OSError) as error:
        raise NoWorkerError(str(error)) from error
    news.tell("channel", config.pk)


def send_test(config: ChannelConfig, clock: Callable[[], datetime]) -> None:
    """Send it, and note on the channel what came of it."""
    asked = config.test_asked_at or clock()
    notice = Notice(
        key=f"0:test:{asked.timestamp():.0f}:{config.key}",
        event="test",
        alert_id=0,
        severity="info",
        labels={"host": settings.HOST_NAME, "rule": "test"},
        text=f"Test of the channel {config.name} on {settings.HOST_NAME}: nothing is wrong.",
        at=asked,
        attempt=1,
        link=link_to("channels"),
    )
    error = attempt(lambda: channel_of(config), notice)
    ChannelConfig.objects.filter(pk=config.pk, test_asked_at=config.test_asked_at).update(
        tested_at=clock(), test_error=str(error)[:500] if error is not None else ""
    )
    news.tell("channel", config.pk)


def attempt(make: Callable[[], Channel], notice: Notice) -> ChannelError | None:
    """Send `notice` by the channel that `make` gives; the error, without secrets, if it was not delivered."""
    channel: Channel | None = None
    try:
        channel = make()
        channel.send(notice)
    except ChannelError as error:
        said = channel.without_secrets(str(error)) if channel is not None else str(error)
        return ChannelError(said, permanent=error.permanent, retry_after_s=error.retry_after_s)
    except Exception as error:  # noqa: BLE001 - a library's; it is logged, without what it may quote
        hide = channel.without_secrets if channel is not None else str
        log.error("the channel failed on %s: %s", notice.key, hide(traceback.format_exc()))  # noqa: TRY400
        return ChannelError(hide(f"{type(error).__name__}: {error}"))
    return None
