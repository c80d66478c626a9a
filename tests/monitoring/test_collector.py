"""The sampling loop: what it does when Valkey, the database or a reader fails, and what it calls an event."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import redis
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, connection
from hypothesis import given
from hypothesis import strategies as st

from monitoring import collector, selectors
from monitoring.alerts.loop import AlertLoop
from monitoring.collector import CHANNEL, MAX_WAITING, Outlet, Sampler, run, until_next_second
from monitoring.consumers import LiveConsumer, NewsConsumer, PageConsumer
from monitoring.models import Event, Journal, Series
from monitoring.notable import changes
from monitoring.readers import Roots
from monitoring.services import SampleWriter

AT = 1_800_000_000.0


def sample(at: float = AT, **values: float) -> dict[str, Any]:
    return {"type": "sample", "at": at, "host": "box", "v": values, "state": {}, "events": []}


def outlet_of(client: "redis.Redis", writer: Callable[[], SampleWriter] | None = None) -> Outlet:
    return Outlet(client, writer or (lambda: SampleWriter("box", 168)))


@pytest.mark.django_db(transaction=True)  # connections are closed in between
def test_samples_wait_while_the_database_is_away_and_none_is_lost(valkey_url: str) -> None:
    away = True

    def writer() -> SampleWriter:
        if away:
            raise OperationalError("gone")
        return SampleWriter("box", 168)

    with redis.from_url(valkey_url) as client:
        outlet = outlet_of(client, writer)
        for second in range(5):
            outlet.keep(sample(AT + second, a=float(second)))
            outlet.store()
        assert len(outlet.waiting) == 5
        away = False
        outlet.keep(sample(AT + 5, a=5.0))
        outlet.store()
    assert Journal.objects.count() == 6
    assert (len(outlet.waiting), outlet.n_lost) == (0, 0)


@contextmanager
def full_disk() -> Iterator[None]:
    """The database finds no more room, by its own means."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("VACUUM")  # pages that other tests freed would be room
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
        else:
            cursor.execute(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = '53100'; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER full_disk BEFORE INSERT ON monitoring_journal EXECUTE FUNCTION full_disk()"
            )
    yield
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA max_page_count = 1073741823")
        else:
            cursor.execute("DROP FUNCTION full_disk CASCADE")


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_keeps_samples_waiting_until_there_is_room(valkey_url: str) -> None:
    names = {f"series {n}": float(n) for n in range(2000)}
    with redis.from_url(valkey_url) as client:
        outlet = outlet_of(client)
        with full_disk():
            for second in range(3):
                outlet.keep(sample(AT + second, **names))
                outlet.store()
            assert len(outlet.waiting) == 3
        outlet.store()
    assert (len(outlet.waiting), outlet.n_lost) == (0, 0)
    found = selectors.query("box", ["series 7"], int(AT), int(AT) + 3, tier=1).series["series 7"]
    assert list(found.mean) == [7.0] * 3


@pytest.mark.django_db(transaction=True)
def test_beyond_a_quarter_of_an_hour_the_oldest_samples_go_and_are_counted(valkey_url: str) -> None:
    with redis.from_url(valkey_url) as client:
        outlet = outlet_of(client)
        for second in range(MAX_WAITING + 3):
            outlet.keep(sample(AT + second, a=1.0))
        assert (len(outlet.waiting), outlet.n_lost) == (MAX_WAITING, 3)
        assert outlet.waiting[0]["at"] == AT + 3


@pytest.mark.django_db(transaction=True)
def test_a_sample_that_can_not_be_stored_does_not_hold_up_the_others(valkey_url: str) -> None:
    with redis.from_url(valkey_url) as client:
        outlet = outlet_of(client)
        outlet.keep({**sample(AT, a=1.0), "events": [{"at": AT, "nonsense": True}]})
        outlet.keep(sample(AT + 1, a=2.0))
        outlet.store()
    assert [row.at for row in Journal.objects.all()] == [int(AT) + 1]
    assert outlet.n_lost == 1


@pytest.mark.django_db(transaction=True)
def test_series_that_a_rollback_took_are_made_again(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OperationalError("gone in the middle")

    with redis.from_url(valkey_url) as client:
        outlet = outlet_of(client)
        monkeypatch.setattr(collector, "record_event", fail)
        outlet.keep({**sample(AT, a=1.0), "events": [{"at": AT, "kind": "model", "text": "x"}]})
        outlet.store()
        assert Series.objects.count() == Journal.objects.count() == 0
        monkeypatch.undo()
        outlet.store()
    assert selectors.query("box", ["a"], int(AT), int(AT) + 1, tier=1).series["a"].mean[0] == 1.0
    assert Event.objects.count() == 1


@pytest.mark.django_db
def test_without_valkey_samples_are_stored_all_the_same() -> None:
    outlet = outlet_of(redis.from_url("unix:///nowhere.sock"))
    found = {**sample(a=1.0), "events": [{"at": AT, "kind": "model", "text": "x loaded"}]}
    outlet.publish(found)
    outlet.keep(found)
    outlet.store()
    assert Journal.objects.count() == 1
    assert Event.objects.get().text == "x loaded"


@pytest.mark.django_db(transaction=True)
def test_a_database_that_hangs_delays_no_sample(valkey_url: str) -> None:
    hanging, go_on = threading.Event(), threading.Event()

    def writer() -> SampleWriter:
        hanging.set()
        go_on.wait()
        raise OperationalError("gone after all")

    sampler = Sampler("box", Roots(), ["memory"])
    with redis.from_url(valkey_url) as client, client.pubsub() as listener:
        listener.subscribe(CHANNEL)
        outlet = outlet_of(client, writer)
        seen = []

        def stopped() -> bool:
            while (message := listener.get_message(ignore_subscribe_messages=True)) is not None:
                seen.append(json.loads(message["data"]))
            if len(seen) >= 3:
                go_on.set()
            return len(seen) >= 3

        run(sampler, outlet, AlertLoop("box"), stopped)
    assert hanging.is_set()
    assert [each["v"]["collector_samples_waiting"] for each in seen] == list(range(len(seen)))
    assert all(int(b["at"]) > int(a["at"]) for a, b in pairwise(seen))
    sampler.close()


@given(st.floats(0, 4e9))
def test_the_next_tick_is_a_second_away_at_most_whatever_the_clock_says(at: float) -> None:
    assert 0 < until_next_second(at) <= 1


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


def test_the_first_sample_tells_that_the_collector_started() -> None:
    sampler = Sampler("box", Roots(), ["memory"])
    found = [[each["text"] for each in sampler.sample(AT + n, n)["events"]] for n in range(2)]
    assert found == [["collector started"], []]
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
        (
            {"engine": engine(), "models": [{"name": "a", "gpu_share": 1.0}]},
            {"engine": engine(), "models": [{"name": "a", "gpu_share": 0.6}]},
            ["a: 60% on the GPU, was 100%"],
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
    await socket.connect()
    assert await socket.receive_output() == {"type": "websocket.close", "code": 4401}
    assert await socket.receive_nothing()


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
