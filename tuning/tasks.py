"""Work of the worker for the tuning app."""

import logging

from celery import shared_task
from redis.exceptions import RedisError

from tuning.push import push_if_stale

log = logging.getLogger(__name__)


@shared_task
def keep_gateway_in_step() -> None:
    """Every five seconds: a Valkey that was away or lost its state gets the profiles again."""
    try:
        push_if_stale()
    except RedisError as error:
        log.warning("profiles wait for Valkey: %s", error)
