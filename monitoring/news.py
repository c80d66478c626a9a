"""News to every open page: an alert changed, a run made progress. The per-second samples do not come this way.

A piece of news says what changed (`{"type": "alert", "id": 7}`), little more: pages fetch the HTML that shows it, so
that it is rendered in one place. Upper apps tell theirs here as well.

What was told while a page was on its way to the browser reached no socket of it: each socket hears first how long ago
the last news were, and the page fetches anew what it shows if that is after its own beginning."""

import functools
import logging
import time
from typing import Any, TypedDict

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

GROUP = "news"
LAST = "aicleaner:news:last"  # when the last piece was told, unix time in s
log = logging.getLogger(__name__)


class News(TypedDict):
    """`type` names the kind (a page listens to `news-TYPE`), `id` the row; `data` is what a progress bar needs at once."""

    type: str
    id: int | str
    data: dict[str, Any]


def tell(kind: str, row_id: int | str, **data: Any) -> None:
    """Send when the transaction commits. A page that misses it (Valkey away) sees the change when its socket is back."""
    news: News = {"type": kind, "id": row_id, "data": data}
    transaction.on_commit(lambda: _send(news))


def _send(news: News) -> None:
    try:
        _valkey(settings.VALKEY_URL).set(LAST, time.time())
        async_to_sync(get_channel_layer().group_send)(GROUP, {"type": "news", "news": news})
    except (RedisError, OSError) as error:
        log.warning("news of %s %s reached no page: %s", news["type"], news["id"], error)


def last_told_ago() -> float | None:
    """Seconds since the last piece of news; None when unknown (Valkey was emptied or is away)."""
    try:
        last = _valkey(settings.VALKEY_URL).get(LAST)
    except (RedisError, OSError):
        return None
    return max(time.time() - float(last), 0.0) if isinstance(last, bytes) else None


@functools.cache
def _valkey(url: str) -> redis.Redis:
    return redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
