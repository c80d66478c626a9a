"""News reach every open page, after the commit only."""

import json
import time
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.contrib.auth.models import User
from django.db import connections, transaction

from monitoring import news
from monitoring.consumers import NewsConsumer


async def page_socket() -> tuple[WebsocketCommunicator, dict[str, Any]]:
    """A page's socket and what it hears first."""
    socket = WebsocketCommunicator(NewsConsumer.as_asgi(), "/ws/news/")
    socket.scope["user"] = User(username="u")
    assert (await socket.connect())[0]
    return socket, json.loads(await socket.receive_from(timeout=5))


class RolledBackError(Exception):
    pass


def tell_and_roll_back() -> None:
    with transaction.atomic():
        news.tell("alert", 1)
        raise RolledBackError


@pytest.mark.django_db(transaction=True)
async def test_each_page_hears_what_was_committed_and_nothing_else(valkey_url: str) -> None:
    sockets = [(await page_socket())[0] for _ in range(2)]
    with pytest.raises(RolledBackError):
        await sync_to_async(tell_and_roll_back)()
    await sync_to_async(news.tell)("run", 7, done=0.5)
    for socket in sockets:
        heard = json.loads(await socket.receive_from(timeout=5))
        assert heard == {"type": "run", "id": 7, "data": {"done": 0.5}}
        await socket.disconnect()
    await sync_to_async(connections.close_all)()  # the thread is shared with later tests


@pytest.mark.django_db(transaction=True)
async def test_a_socket_hears_first_how_long_ago_the_last_news_were(valkey_url: str) -> None:
    with redis.from_url(valkey_url) as client:
        client.delete(news.LAST)
        socket, hello = await page_socket()
        assert hello == {"type": "hello", "last_told_ago_s": None}
        await socket.disconnect()
        before = time.time()
        await sync_to_async(news.tell)("run", 7)
        client.set(news.LAST, float(client.get(news.LAST)) - 100)
        socket, hello = await page_socket()
        assert 100 <= hello["last_told_ago_s"] <= 100 + time.time() - before
        await socket.disconnect()
    await sync_to_async(connections.close_all)()


@pytest.mark.django_db(transaction=True)
def test_news_without_valkey_keep_nobody_from_working(caplog: pytest.LogCaptureFixture) -> None:
    before = channel_layers.set(
        DEFAULT_CHANNEL_LAYER, RedisPubSubChannelLayer(hosts=["unix:///nowhere.sock"])
    )
    try:
        news.tell("alert", 1)
    finally:
        channel_layers.set(DEFAULT_CHANNEL_LAYER, before)
    assert "news of alert 1 reached no page" in caplog.text
