"""The dead-man's switch: a call outside each minute, left out as soon as alerts are not judged any more."""

import logging
from datetime import datetime

import redis

from monitoring.alerts.defaults import EVALUATOR_LATE_S
from monitoring.alerts.selectors import newest_sample
from monitoring.channels.base import ChannelError, tls_context

SAMPLE_FRESH_S = 10.0
FAILED_KEY = (
    "aicleaner:heartbeat:failed"  # what was logged once is not logged again by any process of the worker
)
log = logging.getLogger(__name__)


def is_fresh(valkey: redis.Redis, host: str, now: float) -> bool:
    """Whether samples come, and the evaluator keeps up with them."""
    at, lag_s = newest_sample(valkey, host, now)
    return at is not None and lag_s is not None and now - at <= SAMPLE_FRESH_S and lag_s < EVALUATOR_LATE_S


def beat(valkey: redis.Redis, host: str, url: str, now: datetime) -> bool:
    """Call `url`, whose path may be a secret; False: it was not called, or did not answer 2xx."""
    if not is_fresh(valkey, host, now.timestamp()):
        return False
    from monitoring.channels.http import get  # the HTTP client is for who sends, 8 MB

    try:
        get(url, tls_context(""), now)
    except ChannelError as error:
        if valkey.set(FAILED_KEY, 1, nx=True):
            log.warning(
                "the heartbeat did not get through (said once, tried each minute): %s",
                _without_path(error, url),
            )
        return False
    if valkey.delete(FAILED_KEY):
        log.info("the heartbeat gets through again")
    return True


def _without_path(error: ChannelError, url: str) -> str:
    """Receivers quote what they were asked for."""
    path = url.partition("://")[2].partition("/")[2]
    return str(error).replace(path, "…") if path else str(error)
