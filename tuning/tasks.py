"""Work of the worker for the tuning app."""

import logging

import redis
from celery import shared_task
from django.conf import settings
from django.utils import timezone
from redis.exceptions import RedisError

from inference.gateway.pushed import PROFILES
from inference.pushing import push_if_stale
from tuning import optimization, selectors

log = logging.getLogger(__name__)


@shared_task
def keep_gateway_in_step() -> None:
    """Every five seconds: a Valkey that was away or lost its state gets the profiles again."""
    try:
        push_if_stale(PROFILES, selectors.gateway_state)
    except RedisError as error:
        log.warning("profiles wait for Valkey: %s", error)


@shared_task
def optimize_models() -> None:
    """Every minute; one at a time, since each starts from what the last one left."""
    client = redis.from_url(settings.VALKEY_URL)
    lock = client.lock("aicleaner:lock:optimize", timeout=120, blocking=False)
    if lock.acquire():
        try:
            optimization.optimize(now=timezone.now())
        finally:
            lock.release()
