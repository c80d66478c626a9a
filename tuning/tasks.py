"""Work of the worker for the tuning app."""

import logging

from celery import shared_task
from redis.exceptions import RedisError

from inference.gateway.pushed import PROFILES
from inference.pushing import push_if_stale
from tuning import selectors

log = logging.getLogger(__name__)


@shared_task
def keep_gateway_in_step() -> None:
    """Every five seconds: a Valkey that was away or lost its state gets the profiles again."""
    try:
        push_if_stale(PROFILES, selectors.gateway_state)
    except RedisError as error:
        log.warning("profiles wait for Valkey: %s", error)
