"""A queue that is longer than what a worker looks at in one go: who could go now goes, whoever stands before."""

from collections.abc import Iterator
from datetime import time

import aiohttp
import pytest
from celery import current_app
from kombu.exceptions import KombuError

from monitoring.alerts import deliveries
from monitoring.channels import http
from monitoring.models import Delivery
from tests.monitoring.alerting import Bench, make_rule
from tests.monitoring.receivers import HttpReceiver, configure, dumb_server, http_receiver
from tests.monitoring.test_channels import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]


@pytest.fixture(autouse=True)
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "MAX_WAITING", 5)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def fires(bench: Bench, n: int) -> None:
    make_rule()
    for number in range(n):
        make_rule(name=f"Rule {number}", series=f"load{number}")
    bench.heat(None, **{f"load{number}": 95.0 for number in range(n)})


def test_what_quiet_hours_hold_back_stands_in_nobodys_way(receiver: HttpReceiver) -> None:
    url = {"url": f"{receiver.url}/hook", "signing_secret": SECRET}
    night = configure("webhook", {}, url, name="night", quiet_from=time(7, 59), quiet_to=time(9), zone="UTC")
    bench = Bench()
    fires(bench, 12)
    bench.work()
    assert night.deliveries.filter(status="waiting").count() == 12
    day = configure("webhook", {}, url, name="day")
    bench.heat(95)
    bench.work(60)
    assert [(each.event, each.status) for each in day.deliveries.all()] == [("fired", "sent")]
    bench.work(3600)
    assert not Delivery.objects.filter(status="waiting").exists()


def test_a_receiver_that_hangs_stands_in_nobodys_way(
    receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", aiohttp.ClientTimeout(total=0.3))
    with dumb_server() as port:
        hanging = configure(
            "webhook", {}, {"url": f"http://127.0.0.1:{port}/", "signing_secret": SECRET}, name="hangs"
        )
        bench = Bench()
        fires(bench, 12)
        for _ in range(14):
            found = deliveries.lease(bench.clock())
            assert found is not None
            if found.channel == "log":
                deliveries.send(found, bench.clock)
        assert deliveries.lease(bench.clock()) is None
        assert hanging.deliveries.exclude(locked_until=None).count() == 2  # as many as it gets at a time
        good = configure("webhook", {}, {"url": receiver.url, "signing_secret": SECRET}, name="good")
        bench.heat(95)
        for _ in range(2):
            found = deliveries.lease(bench.clock())
            assert found is not None
            assert found.channel in ("log", good.key)
            deliveries.send(found, bench.clock)
        assert deliveries.lease(bench.clock()) is None
    assert [(each.event, each.status) for each in good.deliveries.all()] == [("fired", "sent")]


def test_a_long_queue_is_told_whole_each_notice_once_and_in_order(receiver: HttpReceiver) -> None:
    configure("webhook", {}, {"url": receiver.url, "signing_secret": SECRET})
    bench = Bench()
    fires(bench, 12)
    bench.heat(
        None, **{f"load{number}": 50.0 for number in range(6)}, **{f"load{n}": 95.0 for n in range(6, 12)}
    )
    bench.work()
    events = [got.json["event"] for got in receiver.got]
    assert sorted(events) == ["fired"] * 6 + ["resolved"] * 6
    assert len({got.headers["idempotency-key"] for got in receiver.got}) == 12
    assert set(Delivery.objects.values_list("status", flat=True)) == {"sent", "folded"}


def test_nobody_waits_for_a_valkey_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"it would have waited {seconds} s")

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    with (
        current_app.connection_for_write("redis+socket:///nowhere/valkey.sock") as broker,
        pytest.raises(KombuError),
    ):
        _ = broker.default_channel
