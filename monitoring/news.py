"""News to every open page: an alert changed, a run made progress. The per-second samples do not come this way.

A piece of news says what changed (`{"type": "alert", "id": 7}`), little more: pages fetch the HTML that shows it, so
that it is rendered in one place. Upper apps tell theirs here as well."""

import logging
from typing import Any, TypedDict

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

GROUP = "news"
log = logging.getLogger(__name__)


class News(TypedDict):
    """`type` names the kind (a page listens to `news-TYPE`), `id` the row; `data` is what a progress bar needs at once."""

    type: str
    id: int | str
    data: dict[str, Any]


def tell(kind: str, row_id: int | str, **data: Any) -> None:
    """Send when the transaction commits. A page that misses it (Valkey away) sees the change when it is loaded anew."""
    news: News = {"type": kind, "id": row_id, "data": data}
    transaction.on_commit(lambda: _send(news))


def _send(news: News) -> None:
    try:
        async_to_sync(get_channel_layer().group_send)(GROUP, {"type": "news", "news": news})
    except (RedisError, OSError) as error:
        log.warning("news of %s %s reached no page: %s", news["type"], news["id"], error)
