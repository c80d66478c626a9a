"""Work of the worker for the monitoring app."""

import logging
import time

import redis
from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.utils import timezone

from monitoring.alerts import channel_services, deliveries, heartbeat, selectors, tending
from monitoring.analysis import services as analysis
from monitoring.exports import otlp
from monitoring.exports.selectors import current_families
from monitoring.models import ChannelConfig
from monitoring.presence import Presences

log = logging.getLogger(__name__)
WATCHING_KEY = "aicleaner:alerts:watching"
# A host counts as silent only while somebody has looked for so long: after a stop of everything nobody has.
LOOK_FIRST_S = 30


@shared_task
def deliver_notices() -> None:
    """Woken by each transition, and every few seconds by beat."""
    tending.tend(timezone.now())
    deliveries.deliver_due(timezone.now)


@shared_task
def deliver_test(config_id: int) -> None:
    """Asked for on the page of channels."""
    config = ChannelConfig.objects.filter(pk=config_id).first()
    if config is not None:
        channel_services.send_test(config, timezone.now)


@shared_task
def watch_host() -> None:
    """Finds out that the collector is silent, which it can't tell itself."""
    now = timezone.now()
    client = redis.from_url(settings.VALKEY_URL)
    try:
        client.set(WATCHING_KEY, now.timestamp(), nx=True)
        client.expire(WATCHING_KEY, LOOK_FIRST_S)
        since = float(client.get(WATCHING_KEY) or now.timestamp())
        newest, lag_s = selectors.newest_sample(client, settings.HOST_NAME, now.timestamp())
    finally:
        client.close()
    if abs(now.timestamp() - since) >= LOOK_FIRST_S:
        age_s = None if newest is None else max(now.timestamp() - newest, 0.0)
        tending.watch_host(settings.HOST_NAME, age_s, lag_s, now)


@shared_task
def beat_outside() -> None:
    """Once a minute: tell a watcher outside that this machine still judges its alerts, so that silence is noticed."""
    if settings.ALERT_HEARTBEAT_URL:
        client = redis.from_url(settings.VALKEY_URL)
        try:
            heartbeat.beat(client, settings.HOST_NAME, settings.ALERT_HEARTBEAT_URL, timezone.now())
        finally:
            client.close()


@shared_task
def export_otlp() -> None:
    """Once in OTEL_METRIC_EXPORT_INTERVAL; what a receiver does not take is left out, the next minute comes."""
    if not settings.OTLP_ENABLED or (families := current_families()) is None:
        return
    if not otlp.export(families, time.time_ns()):
        log.warning("the OTLP receiver did not take the metrics; the SDK's line before this one says why")


@shared_task
def delete_old_alerts() -> None:
    tending.delete_old(timezone.now())


@shared_task
def look_at_series() -> None:
    """Each minute, so that what began is found within five; once an hour it looks over the last weeks, too."""
    analysis.look_at_series(settings.HOST_NAME, timezone.now())


_presences: list[Presences] = []


@worker_ready.connect
def _appear(**_: object) -> None:
    _presences.append(Presences())
    _presences[-1].start()


@worker_shutting_down.connect
def _disappear(**_: object) -> None:
    while _presences:
        _presences.pop().end()
