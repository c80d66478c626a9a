"""Collector and worker killed with -9 at every single step, as processes of their own: nothing is lost or said twice."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections

from monitoring.alerts import tending
from monitoring.alerts.loop import AlertLoop
from monitoring.channels import CHANNELS
from monitoring.channels.base import Notice
from monitoring.channels.log import LogChannel
from monitoring.channels.webhook import WebhookChannel, new_secret
from monitoring.models import Alert, Delivery, EscalationPolicy, EscalationStep, Event, RuleState
from tests.monitoring.alerting import HOST, Bench, at, make_rule, sample
from tests.monitoring.receivers import configure

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey_url")]
LOG = settings.LOG_DIR / "alerts.log"


def in_a_process(work: Callable[[], None]) -> bool:
    """Run `work` in a child process; False: it was killed."""
    connections.close_all()  # a connection belongs to one process
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the child ended with {status}"
    return status == 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_before_statement(n: int, work: Callable[[], None]) -> Callable[[], None]:
    """`work`, killed before its n-th statement to the database (counting COMMIT)."""

    def run() -> None:
        left = n

        def count(execute: Callable[..., Any], *arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                die()
            return execute(*arguments)

        commit = connection.commit

        def count_commit() -> None:
            count(lambda: None)
            commit()

        connection.commit = count_commit  # type: ignore[method-assign]
        with connection.execute_wrapper(count):
            work()

    return run


def collect(*heat: float, start: int = 1) -> Callable[[], None]:
    """A collector that starts at second `start` and takes a sample a second."""

    def run() -> None:
        loop = AlertLoop(HOST)
        for second, value in enumerate(heat, start):
            loop.feed(sample(second, heat_percent=value))
            assert loop.take_next()

    return run


def work() -> None:
    Bench().work(100)


def test_a_collector_killed_at_any_statement_loses_no_transition() -> None:
    make_rule()
    AlertLoop(HOST)._ready(0.0)  # default rules are there
    n = 0
    while True:
        Alert.objects.all().delete()
        RuleState.objects.all().delete()
        Event.objects.all().delete()
        ended = in_a_process(killed_before_statement(n, collect(95, 50)))
        # The one that is started instead, later than flapping counts, sees what comes next: hot, then cool.
        assert in_a_process(collect(95, 95, 50, start=1000))
        alerts = list(Alert.objects.order_by("id"))
        assert 1 <= len(alerts) <= 2
        for alert in alerts:
            assert [each.event for each in alert.deliveries.all()] == ["fired", "resolved"]
            assert [each.kind for each in alert.entries.all()] == ["fired", "resolved"]
        assert Event.objects.count() == 2 * len(alerts)
        assert RuleState.objects.get().memory["open"] is False
        if ended:
            break
        n += 1
    assert n > 30


def test_a_worker_killed_at_any_statement_says_everything_once() -> None:
    make_rule()
    Bench().heat(95)
    alert, n = Alert.objects.get(), 0
    while True:
        LOG.unlink(missing_ok=True)
        Delivery.objects.update(status="waiting", locked_until=None, attempts=0, due_at=at(0))
        ended = in_a_process(killed_before_statement(n, work))
        assert in_a_process(lambda: Bench().work(100 + 61))  # after the lease
        assert [line.rpartition("key=")[2] for line in LOG.read_text().splitlines()] == [
            f"{alert.pk}:fired:1:log"
        ]
        assert Delivery.objects.get().status == "sent"
        if ended:
            break
        n += 1
    assert n > 5


class Deadly(LogChannel):
    """The log, killed before or after the line is written."""

    def __init__(self, when: str) -> None:
        self.when = when

    def send(self, notice: Notice) -> None:
        if self.when == "before":
            die()
        super().send(notice)
        die()


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_or_after_the_send_the_line_stands_once(when: str) -> None:
    LOG.unlink(missing_ok=True)
    make_rule()
    Bench().heat(95)

    def deadly() -> None:
        CHANNELS["log"] = Deadly(when)
        work()

    assert not in_a_process(deadly)
    assert LOG.exists() is (when == "after")
    assert Delivery.objects.get().status == "waiting"
    assert in_a_process(lambda: Bench().work(100 + 61))
    assert len(LOG.read_text().splitlines()) == 1
    assert Delivery.objects.get().status == "sent"


@contextmanager
def webhook_process(file: Path) -> Iterator[int]:
    """A receiver in a process of its own (a fork must not copy threads): a line in `file` for each key it got; its port."""
    server = HTTPServer(("127.0.0.1", 0), _hook_that_writes(file))
    child = os.fork()
    if child == 0:
        server.serve_forever()
    port = server.server_address[1]
    server.server_close()
    try:
        yield port
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _hook_that_writes(file: Path) -> type[BaseHTTPRequestHandler]:
    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with file.open("a") as lines:
                lines.write(f"{self.headers['Idempotency-Key']}\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    return Hook


def test_a_worker_killed_at_any_statement_reaches_a_webhook_under_one_key(tmp_path: Path) -> None:
    """At least once: killed after the send and before the mark it is sent again, and the receiver knows the key."""
    make_rule()
    got = tmp_path / "got"
    with webhook_process(got) as port:
        secrets = {"url": f"http://127.0.0.1:{port}/", "signing_secret": new_secret()}
        config = configure("webhook", {}, secrets)
        Bench().heat(95)
        key, n, times = f"{Alert.objects.get().pk}:fired:1:{config.key}", 0, set[int]()
        while True:
            got.unlink(missing_ok=True)
            Delivery.objects.update(status="waiting", locked_until=None, attempts=0, due_at=at(0))
            ended = in_a_process(killed_before_statement(n, work))
            assert in_a_process(lambda: Bench().work(100 + 61))
            lines = got.read_text().splitlines()
            assert set(lines) == {key}
            times.add(len(lines))
            assert set(Delivery.objects.values_list("status", flat=True)) == {"sent"}
            if ended:
                break
            n += 1
    assert n > 10
    assert times == {1, 2}


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_or_after_the_send_a_webhook_hears_of_it(when: str, tmp_path: Path) -> None:
    make_rule()
    got = tmp_path / "got"
    with webhook_process(got) as port:
        secrets = {"url": f"http://127.0.0.1:{port}/", "signing_secret": new_secret()}
        config = configure("webhook", {}, secrets)
        Bench().heat(95)
        send = WebhookChannel.send

        def deadly(self: WebhookChannel, notice: Notice) -> None:
            if when == "after":
                send(self, notice)
            die()

        def killed() -> None:
            WebhookChannel.send = deadly  # type: ignore[method-assign]
            work()

        assert not in_a_process(killed)
        assert config.deliveries.get().status == "waiting"
        assert got.exists() is (when == "after")
        assert in_a_process(lambda: Bench().work(100 + 61))
    assert len(got.read_text().splitlines()) == (2 if when == "after" else 1)
    assert len(set(got.read_text().splitlines())) == 1
    assert config.deliveries.get().status == "sent"


def test_a_collector_killed_at_any_statement_writes_an_episode_with_all_its_steps_or_none() -> None:
    make_rule()
    AlertLoop(HOST)._ready(0.0)
    config = configure("webhook", {}, {"url": "http://127.0.0.1:9/", "signing_secret": new_secret()})
    policy = EscalationPolicy.objects.create(name="Ops", is_default=True)
    for number, after_min in enumerate((0, 15), 1):
        step = EscalationStep.objects.create(policy=policy, number=number, after_min=after_min)
        step.channels.add(config)
    n = 0
    while True:
        Alert.objects.all().delete()
        RuleState.objects.all().delete()
        ended = in_a_process(killed_before_statement(n, collect(95)))
        assert in_a_process(collect(95, start=1000))
        alert = Alert.objects.get()
        assert [(each.number, each.state, each.channels.count()) for each in alert.steps.all()] == [
            (1, "taken", 1),
            (2, "waiting", 1),
        ]
        assert set(alert.deliveries.values_list("channel", flat=True)) == {"log", config.key}
        if ended:
            break
        n += 1
    assert n > 20


def test_a_worker_killed_at_any_statement_takes_each_step_once() -> None:
    """The step and its outbox rows are one transaction; the channel that it draws in is told under one key."""
    make_rule(repeat_s=0)
    config = configure("webhook", {}, {"url": "http://127.0.0.1:9/", "signing_secret": new_secret()})
    policy = EscalationPolicy.objects.create(name="Ops", is_default=True)
    step = EscalationStep.objects.create(policy=policy, number=1, after_min=1)
    step.channels.add(config)
    Bench().heat(95)
    Bench().work(2)
    alert, n = Alert.objects.get(), 0
    while True:
        alert.deliveries.filter(event="escalated").delete()
        alert.entries.filter(kind="escalated").delete()
        alert.steps.update(state="waiting", decided_at=None)
        ended = in_a_process(killed_before_statement(n, lambda: tending.tend(at(100))))
        assert in_a_process(lambda: tending.tend(at(100)))
        assert [each.channel for each in alert.deliveries.filter(event="escalated")] == ["log", config.key]
        assert alert.entries.filter(kind="escalated").count() == 1
        assert alert.steps.get().state == "taken"
        if ended:
            break
        n += 1
    assert n > 8


def test_a_worker_killed_at_any_statement_loses_nothing_of_a_group(tmp_path: Path) -> None:
    settings_before, settings.ALERT_GROUP_WAIT_S = settings.ALERT_GROUP_WAIT_S, 30
    make_rule(series="disk_percent")
    got = tmp_path / "got"
    try:
        with webhook_process(got) as port:
            secrets = {"url": f"http://127.0.0.1:{port}/", "signing_secret": new_secret()}
            config = configure("webhook", {}, secrets)
            Bench().heat(None, **{"disk_percent{mount=/a}": 95.0, "disk_percent{mount=/b}": 95.0})
            Delivery.objects.filter(channel="log").delete()
            key, n, times = Delivery.objects.order_by("id")[0].key, 0, set[int]()
            while True:
                got.unlink(missing_ok=True)
                Delivery.objects.update(
                    status="waiting", locked_until=None, attempts=0, due_at=at(30), group="", reason=""
                )
                ended = in_a_process(killed_before_statement(n, work))
                assert in_a_process(lambda: Bench().work(100 + 61))
                lines = got.read_text().splitlines()
                assert set(lines) == {f"group:{key}"}
                times.add(len(lines))
                rows = Delivery.objects.filter(config=config)
                assert {(row.status, row.reason) for row in rows} == {("sent", "in one message with 1 more")}
                if ended:
                    break
                n += 1
    finally:
        settings.ALERT_GROUP_WAIT_S = settings_before
    assert n > 10
    assert times == {1, 2}
