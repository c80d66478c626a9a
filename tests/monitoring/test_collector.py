"""The sampling loop: what it does when Valkey, the database or a reader fails, and what it calls an event."""

import json
from typing import Any

import pytest
import redis
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.db import DatabaseError

from monitoring.collector import CHANNEL, Outlet, Sampler
from monitoring.consumers import LiveConsumer, NewsConsumer, PageConsumer
from monitoring.models import Event, Journal
from monitoring.notable import changes
from monitoring.readers import Roots
from monitoring.services import SampleWriter

AT = 1_800_000_000.0


def sample(at: float = AT, **values: float) -> dict[str, Any]:
    return {"type": "sample", "at": at, "host": "box", "v": values, "state": {}, "events": []}


@pytest.mark.django_db(transaction=True)  # connections are closed in between
def test_samples_wait_while_the_database_is_away_and_none_is_lost(valkey_url: str) -> None:
    away = True

    def writer() -> SampleWriter:
        if away:
            raise DatabaseError("gone")
        return SampleWriter("box", 168)

    with redis.from_url(valkey_url) as client:
        outlet = Outlet(client, writer)
        for second in range(5):
            outlet.store(sample(AT + second, a=float(second)))
        assert len(outlet.waiting) == 5
        away = False
        outlet.store(sample(AT + 5, a=5.0))
    assert Journal.objects.count() == 6
    assert not outlet.waiting


@pytest.mark.django_db
def test_without_valkey_samples_are_stored_all_the_same() -> None:
    client = redis.from_url("unix:///nowhere.sock")
    outlet = Outlet(client, lambda: SampleWriter("box", 168))
    outlet.publish(sample(a=1.0))
    outlet.store({**sample(a=1.0), "events": [{"at": AT, "kind": "model", "text": "x loaded"}]})
    assert Journal.objects.count() == 1
    assert Event.objects.get().text == "x loaded"


def test_a_failing_reader_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler("box", Roots(), ["cpu", "memory"])

    def fail(now: float) -> None:
        raise OSError("broken")

    monkeypatch.setattr(sampler.readers[0], "read", fail)
    found = sampler.sample(AT, 1.0)
    assert found["state"]["missing"] == ["cpu"]
    assert found["v"]["memory_used_bytes"] > 0
    monkeypatch.undo()
    assert sampler.sample(AT + 1, 2.0)["state"]["missing"] == []
    sampler.close()


def engine(up: bool = True, url: str = "u", kind: str = "embedded") -> dict[str, Any]:
    return {"up": up, "url": url, "kind": kind, "version": "1"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, {"engine": engine()}, []),
        ({"engine": engine()}, {"engine": engine(up=False)}, ["embedded engine does not answer"]),
        ({"engine": engine(up=False)}, {"engine": engine()}, ["embedded engine answers again"]),
        ({"engine": engine()}, {"engine": engine(url="o", kind="ollama")}, ["engine in use: Ollama 1"]),
        (
            {"engine": engine(), "models": []},
            {"engine": engine(), "models": [{"name": "a", "context_length": 512}]},
            ["a loaded"],
        ),
        (
            {"engine": engine(), "models": [{"name": "a", "context_length": 512}]},
            {"engine": engine(), "models": [{"name": "a", "context_length": 8192}]},
            ["a reloaded: context 512 to 8192"],
        ),
        # an engine that is away says nothing about its models
        (
            {"engine": engine(), "models": [{"name": "a"}]},
            {"engine": engine(up=False), "models": []},
            ["embedded engine does not answer"],
        ),
        (
            {"gpus": [{"index": 0, "throttle": ["power cap"]}]},
            {"gpus": [{"index": 0, "throttle": ["power cap", "hardware thermal"]}]},
            ["GPU 0: hardware thermal"],
        ),
    ],
)
def test_what_changed_is_told_once(before: Any, after: Any, told: list[str]) -> None:
    assert [text for _, text in changes(before, after)] == told
    assert changes(after, after) == []


@pytest.mark.parametrize("consumer", [LiveConsumer, NewsConsumer])
async def test_a_socket_without_a_login_is_closed(valkey_url: str, consumer: type[PageConsumer]) -> None:
    socket = WebsocketCommunicator(consumer.as_asgi(), "/ws/")
    socket.scope["user"] = AnonymousUser()
    connected, code = await socket.connect()
    assert (connected, code) == (False, 4401)


async def test_samples_reach_every_socket_through_one_subscription(valkey_url: str) -> None:
    sockets = []
    for _ in range(3):
        socket = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
        socket.scope["user"] = User(username="u")
        assert (await socket.connect())[0]
        sockets.append(socket)
    client = redis.asyncio.from_url(valkey_url)
    while (await client.pubsub_numsub(CHANNEL))[0][1] < 1:
        pass
    assert (await client.pubsub_numsub(CHANNEL))[0][1] == 1
    await client.publish(CHANNEL, json.dumps(sample(a=1.0)))
    for socket in sockets:
        assert json.loads(await socket.receive_from())["v"] == {"a": 1.0}
        await socket.disconnect()
    await client.aclose()
