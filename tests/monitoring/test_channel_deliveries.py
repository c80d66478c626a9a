"""Channels that were set up, in the outbox: which notices they get, when, and what becomes of those they refuse."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from django.conf import settings as django_settings
from django.core import serializers
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import channel_services, deliveries
from monitoring.alerts.configured import channel_of
from monitoring.alerts.machine import Severity
from monitoring.alerts.quiet import quiet_until
from monitoring.channels import ChannelError, http
from monitoring.models import Alert, ChannelConfig, Delivery
from monitoring.models.delivery import GIVE_UP_AFTER
from safeguards.sealing import SealError, channel_secrets
from tests.monitoring.alerting import T0, Bench, at, make_rule
from tests.monitoring.receivers import Got, HttpReceiver, configure, dumb_server, http_receiver
from tests.monitoring.test_channels import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]
LOG = django_settings.LOG_DIR / "alerts.log"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def webhook(url: str, **values: Any) -> ChannelConfig:
    return configure("webhook", {}, {"url": f"{url}/hook", "signing_secret": SECRET}, **values)


def rows(config: ChannelConfig) -> list[tuple[str, str]]:
    return [(each.event, each.status) for each in config.deliveries.order_by("id")]


def events(receiver: HttpReceiver) -> list[str]:
    return [each.json["event"] for each in receiver.got]


def test_a_channel_hears_what_the_log_hears(receiver: HttpReceiver) -> None:
    make_rule()
    config, bench = webhook(receiver.url), Bench()
    bench.heat(95)
    bench.work()
    bench.heat(50)
    bench.work()
    assert [each.headers["idempotency-key"] for each in receiver.got] == [
        f"{Alert.objects.get().pk}:fired:1:{config.key}",
        f"{Alert.objects.get().pk}:resolved:2:{config.key}",
    ]
    assert set(Delivery.objects.values_list("channel", "status")) == {("log", "sent"), (config.key, "sent")}


def test_a_channel_takes_nothing_below_its_least_severity(receiver: HttpReceiver) -> None:
    make_rule(critical_at=98)
    config, bench = webhook(receiver.url, least_severity=3), Bench()
    bench.heat(95, 50)
    bench.now += 1000
    bench.heat(95, 99, 50)
    bench.work()
    assert events(receiver) == ["resolved"]  # the second episode, with its rise folded in
    assert "now critical" in receiver.got[0].json["text"]
    reasons = list(config.deliveries.filter(status="suppressed").values_list("reason", flat=True))
    assert reasons == [
        "this channel takes nothing below critical",
        "this channel was not told that it fired",
        "this channel takes nothing below critical",
    ]


def test_a_pause_that_a_receiver_asks_for_holds_for_all_of_its_notices(receiver: HttpReceiver) -> None:
    make_rule()
    make_rule(name="Load", series="load")
    config, bench = webhook(receiver.url), Bench()
    receiver.status, receiver.answer_headers = 429, {"Retry-After": "100"}
    bench.heat(95, load=95)
    bench.work()
    assert len(receiver.got) == 1
    assert set(config.deliveries.values_list("due_at", flat=True)) == {bench.clock() + timedelta(seconds=100)}
    bench.work(99)
    assert len(receiver.got) == 1
    receiver.status = 204
    bench.work(1)
    assert rows(config) == [("fired", "sent")] * 2
    assert len({each.headers["idempotency-key"] for each in receiver.got}) == 2


def test_no_receiver_postpones_for_ever(receiver: HttpReceiver) -> None:
    make_rule()
    config, bench = webhook(receiver.url), Bench()
    receiver.status, receiver.answer_headers = 503, {"Retry-After": "99999999"}
    bench.heat(95)
    bench.work()
    assert config.deliveries.get().due_at == bench.clock() + timedelta(hours=6)


def test_a_receiver_that_hangs_holds_up_two_threads_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", aiohttp.ClientTimeout(total=0.3))
    for name in ("heat_percent", "load", "fever"):
        make_rule(name=name, series=name)
    with dumb_server() as port:
        config, bench = webhook(f"http://127.0.0.1:{port}"), Bench()
        bench.heat(95, load=95, fever=95)
        leased = [deliveries.lease(bench.clock()) for _ in range(7)]
        assert [each.channel for each in leased if each is not None] == ["log", config.key, "log", config.key]
        bench.work(deliveries.LEASE_S)
    assert set(config.deliveries.values_list("status", "last_error")) == {
        ("waiting", "127.0.0.1 gave no answer within 0.3 s")
    }
    assert set(Delivery.objects.filter(channel="log").values_list("status", flat=True)) == {"sent"}


def test_what_a_receiver_refuses_is_given_up_told_to_the_log_and_retried_by_hand(
    receiver: HttpReceiver,
) -> None:
    make_rule(repeat_s=0)
    config, bench = webhook(receiver.url, name="Ops"), Bench()
    receiver.status = 404
    bench.heat(95)
    bench.work()
    dead = config.deliveries.get()
    assert (dead.status, dead.last_error, dead.failed_at) == ("dead", "404 Not Found", bench.clock())
    assert "Ops could not deliver" in LOG.read_text().splitlines()[-1]
    bench.work(2 * 86400)
    receiver.status = 200
    assert channel_services.retry(Delivery.objects.all(), now=bench.clock()) == 1
    assert channel_services.retry(Delivery.objects.all(), now=bench.clock()) == 0
    bench.work()
    assert rows(config) == [("fired", "sent")]
    assert [each.headers["idempotency-key"] for each in receiver.got] == [dead.key, dead.key]


def test_a_retry_lasts_a_day_again(receiver: HttpReceiver) -> None:
    make_rule(repeat_s=0)
    config, bench = webhook(receiver.url), Bench()
    receiver.status = 410
    bench.heat(95)
    bench.work()
    receiver.status = 500
    bench.now += 3 * 86400
    channel_services.retry(Delivery.objects.all(), now=bench.clock())
    bench.work()
    row = config.deliveries.get()
    assert (row.status, row.give_up_at) == ("waiting", bench.clock() + GIVE_UP_AFTER)


def test_a_retry_of_what_is_over_says_so(receiver: HttpReceiver) -> None:
    make_rule()
    config, bench = webhook(receiver.url), Bench()
    receiver.status = 404
    bench.heat(95)
    bench.work()
    bench.heat(50)
    bench.work()
    assert rows(config) == [("fired", "dead"), ("resolved", "suppressed")]
    receiver.status = 200
    assert channel_services.retry(Delivery.objects.filter(config=config), now=bench.clock()) == 1
    bench.work()
    assert rows(config) == [("fired", "folded"), ("resolved", "sent")]
    assert receiver.got[-1].json["text"] == "Heat on box: 95 %, fires at 90 %; resolved after 1 s, worst 95 %"


@pytest.mark.parametrize("end", ["off", "deleted"])
def test_what_waits_for_a_channel_that_ends_is_held_back_with_the_reason(
    receiver: HttpReceiver, end: str
) -> None:
    make_rule()
    config, bench = webhook(receiver.url, name="Ops"), Bench()
    receiver.status = 500
    bench.heat(95)
    bench.work()
    row = config.deliveries.get()
    if end == "off":
        config.enabled = False
        channel_services.save_channel(config, {}, who="anna", now=bench.clock())
    else:
        channel_services.delete_channel(config, who="anna")
    row.refresh_from_db()
    what = "switched off" if end == "off" else "deleted"
    assert (row.status, row.reason) == ("suppressed", f"the channel was {what} by anna")
    receiver.got.clear()
    bench.heat(50)
    bench.work(1000)
    assert receiver.got == []
    assert not Delivery.objects.filter(event="resolved").exclude(channel="log").exists()
    assert row.channel_name == ("Ops" if end == "off" else row.channel)


def test_a_changed_channel_is_tried_at_once(receiver: HttpReceiver) -> None:
    make_rule()
    config, bench = webhook("http://127.0.0.1:1"), Bench()
    bench.heat(95)
    bench.work()
    bench.work(5)
    secrets = {"url": f"{receiver.url}/new", "signing_secret": SECRET}
    channel_services.save_channel(config, secrets, who="anna", now=bench.clock())
    bench.work()
    assert [each.path for each in receiver.got] == ["/new"]
    row = config.deliveries.get()
    assert (row.status, "127.0.0.1" in row.last_error) == ("sent", True)


def test_a_test_says_what_came_of_it(receiver: HttpReceiver) -> None:
    config = webhook(receiver.url)
    for status, error in ((200, ""), (403, "403 Forbidden")):
        receiver.status = status
        channel_services.ask_test(config, now=at(1))
        config.refresh_from_db()
        assert (config.test_asked_at, config.tested_at) == (at(1), None)
        channel_services.send_test(config, lambda: at(2))
        config.refresh_from_db()
        assert (config.tested_at, config.test_error) == (at(2), error)
    assert receiver.got[0].json["event"] == "test"
    assert receiver.got[0].json["key"] == f"0:test:{T0 + 1:.0f}:{config.key}"
    assert not Delivery.objects.exists()


# --- secrets


def test_secrets_are_sealed_in_the_database_and_its_exports(settings: Any) -> None:
    config = webhook("http://127.0.0.1:1/T0KEN")
    stored = ChannelConfig.objects.filter(pk=config.pk).values()[0]
    for text in (str(stored), serializers.serialize("json", ChannelConfig.objects.all())):
        assert "T0KEN" not in text
        assert SECRET not in text
    assert channel_secrets.unseal(config.sealed)["signing_secret"] == SECRET
    assert channel_secrets.seal({}) == ""
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another"
    with pytest.raises(SealError, match="enter them again"):
        channel_secrets.unseal(config.sealed)
    with pytest.raises(ChannelError, match="another secret key") as caught:
        channel_of(config)
    assert not caught.value.permanent  # it may be brought back
    settings.SECRET_KEY_FALLBACKS = [old]
    assert channel_secrets.unseal(config.sealed)["signing_secret"] == SECRET


def test_nothing_of_a_delivery_tells_a_secret(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    make_rule()
    receiver.status, receiver.answer = 500, lambda got: got.path.encode()
    config, bench = webhook(f"{receiver.url}/T0KEN-in-path"), Bench()
    bench.heat(95)
    bench.work()
    said = json.dumps(list(Delivery.objects.values()), default=str) + caplog.text + LOG.read_text()
    assert "500" in config.deliveries.get().last_error
    assert "T0KEN-in-path" not in said


# --- quiet hours


def local(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "hours", "until"),
    [
        ("2027-01-15 21:59", ("22:00", "07:00"), None),
        ("2027-01-15 22:00", ("22:00", "07:00"), "2027-01-16 07:00"),
        ("2027-01-16 06:59:59", ("22:00", "07:00"), "2027-01-16 07:00"),
        ("2027-01-16 07:00", ("22:00", "07:00"), None),
        ("2027-01-15 12:30", ("12:00", "13:00"), "2027-01-15 13:00"),
        ("2027-01-15 13:00", ("12:00", "13:00"), None),
        # The night in which the clock goes forward is an hour shorter, the one in which it goes back an hour longer.
        ("2027-03-27 23:00", ("22:00", "07:00"), "2027-03-28 07:00"),
        ("2027-10-30 23:00", ("22:00", "07:00"), "2027-10-31 07:00"),
        # 02:30 is skipped: as if the clock had not been changed yet, that is 03:30.
        ("2027-03-28 01:30", ("22:00", "02:30"), "2027-03-28 03:30"),
        ("2027-03-28 03:10", ("22:00", "02:30"), "2027-03-28 03:30"),
        ("2027-03-28 03:10", ("02:30", "05:00"), None),
        # 02:30 comes twice: the first one counts.
        ("2027-10-31 02:10", ("22:00", "02:30"), "2027-10-31 02:30"),
        ("2027-10-31 02:40", ("22:00", "02:30"), None),
    ],
)
def test_quiet_hours_follow_the_wall_clock(now: str, hours: tuple[str, str], until: str | None) -> None:
    start, end = (time.fromisoformat(each) for each in hours)
    assert quiet_until(local(now), start, end, BERLIN) == (local(until) if until else None)


def test_a_quiet_night_has_as_many_hours_as_it_really_has() -> None:
    start, end = time(22), time(7)
    for day, hours in (("2027-01-15", 9), ("2027-03-27", 8), ("2027-10-30", 10)):
        begin = local(f"{day} 22:00")
        until = quiet_until(begin, start, end, BERLIN)
        assert until is not None
        assert (until - begin) == timedelta(hours=hours)


@given(
    st.integers(0, 2 * 366 * 24 * 60).map(lambda minutes: at(60.0 * minutes)),
    st.times().map(lambda found: found.replace(second=0, microsecond=0)),
    st.times().map(lambda found: found.replace(second=0, microsecond=0)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_quiet_ends_within_a_day_at_its_wall_time_and_is_over_then(
    now: datetime, start: time, end: time, zone_name: str
) -> None:
    zone = ZoneInfo(zone_name)
    if start == end:
        return
    until = quiet_until(now, start, end, zone)
    wall = now.astimezone(zone)
    steady = wall.utcoffset() == (now - timedelta(hours=26)).astimezone(zone).utcoffset()
    steady = steady and wall.utcoffset() == (now + timedelta(hours=26)).astimezone(zone).utcoffset()
    if until is not None:
        assert timedelta(0) < until - now <= timedelta(hours=25)
        assert quiet_until(until, start, end, zone) is None or not steady
    if steady:
        inside = start <= wall.time() < end if start < end else not end <= wall.time() < start
        assert (until is not None) is inside
        assert until is None or until.astimezone(zone).time() == end


def quiet_webhook(receiver: HttpReceiver, **values: Any) -> ChannelConfig:
    """From half a minute before T0 (2027-01-15 09:00 in Berlin) to an hour after."""
    hours = {"quiet_from": time(8, 59, 30), "quiet_to": time(10), "zone": "Europe/Berlin"}
    return webhook(receiver.url, **hours, **values)


def test_what_quiet_hours_hold_back_is_sent_at_their_end_as_one_summary(receiver: HttpReceiver) -> None:
    make_rule()
    config, bench = quiet_webhook(receiver), Bench()
    bench.heat(95)
    bench.work()
    row = config.deliveries.get()
    assert (row.status, row.due_at, row.reason) == (
        "waiting",
        at(3600),
        "quiet hours until 10:00 Europe/Berlin",
    )
    assert row.give_up_at == at(3600) + GIVE_UP_AFTER
    bench.heat(50)
    bench.work()
    bench.work(3590)
    assert receiver.got == []
    bench.work(10)
    assert [each.json["text"] for each in receiver.got] == [
        "Heat on box: 95 %, fires at 90 %; resolved after 1 s, worst 95 %"
    ]
    assert rows(config) == [("fired", "folded"), ("resolved", "sent")]
    assert (Delivery.objects.filter(channel="log", status="sent").count()) == 2  # nobody else waited


def test_critical_alerts_pass_the_quiet_hours_by_option(receiver: HttpReceiver) -> None:
    make_rule(critical_at=98)
    bench = Bench()
    passing = quiet_webhook(receiver)
    keeping = quiet_webhook(receiver, critical_passes=False, name="never")
    bench.heat(95)
    bench.work()
    assert receiver.got == []
    bench.heat(99)
    bench.work()
    assert events(receiver) == ["risen"]
    assert rows(passing) == [("fired", "folded"), ("risen", "sent")]
    assert rows(keeping) == [("fired", "waiting"), ("risen", "waiting")]
    keeping.quiet_from = keeping.quiet_to = None
    secrets = {"url": receiver.url, "signing_secret": SECRET}
    channel_services.save_channel(keeping, secrets, who="anna", now=bench.clock())
    bench.work()
    assert rows(keeping) == [("fired", "folded"), ("risen", "sent")]


def test_what_fails_before_quiet_hours_waits_through_them(receiver: HttpReceiver) -> None:
    make_rule()
    receiver.status = 500
    config = webhook(receiver.url, quiet_from=time(8, 1), quiet_to=time(9), zone="UTC")
    bench = Bench()
    bench.heat(95)
    bench.work()
    receiver.status = 200
    bench.now = 120.0
    Delivery.objects.update(due_at=at(100))
    bench.work()
    assert len(receiver.got) == 1
    bench.now = 3600.0
    bench.work()
    assert rows(config) == [("fired", "sent")]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("heat"), st.sampled_from([50, 95, 99])),
        st.tuples(st.just("work"), st.sampled_from([0, 5, 100, 1000, 20000])),
        st.tuples(st.just("answer"), st.sampled_from([200, 404, 429, 500])),
        st.tuples(st.sampled_from(["retry", "save", "switch off"]), st.just(0)),
    ),
    max_size=20,
)


@settings(max_examples=40, deadline=None)
@given(ACTS, st.integers(1, 3), st.booleans())
def test_whatever_happens_a_notice_is_sent_held_back_with_a_reason_or_given_up_and_quiet_is_kept(
    django_db_blocker: Any, acts: list[tuple[str, int]], least_severity: int, critical_passes: bool
) -> None:
    with django_db_blocker.unblock(), transaction.atomic(), http_receiver() as receiver:
        make_rule(critical_at=98)
        bench = Bench()
        config = webhook(
            receiver.url,
            least_severity=least_severity,
            critical_passes=critical_passes,
            quiet_from=time(8, 0, 30),
            quiet_to=time(13),
        )
        heard: list[tuple[datetime, str, str]] = []

        def hear(got: Got) -> bytes:
            heard.append((bench.clock(), got.json["severity"], got.json["key"]))
            return b""

        receiver.answer = hear
        for act, value in acts:
            _do(bench, receiver, config, act, value)
        receiver.status = 200
        bench.work(24 * 3600)
        bench.work((at(6 * 3600) - bench.clock()).total_seconds() % 86400)  # 14:00, when all may speak
        bench.work(1000)
        for row in config.deliveries.all():
            assert row.status in ("sent", "dead", "folded", "suppressed"), row
            assert row.reason or row.status in ("sent", "dead")
            assert row.status != "sent" or row.key in {key for *_, key in heard}
        for when, severity, _ in heard:
            assert not time(8, 0, 30) <= when.time() < time(13) or (
                severity == "critical" and critical_passes
            )
            assert Severity[severity.upper()] >= least_severity
        transaction.set_rollback(True)


def _do(bench: Bench, receiver: HttpReceiver, config: ChannelConfig, act: str, value: int) -> None:
    if act == "heat":
        bench.heat(float(value))
    elif act == "work":
        bench.work(value)
    elif act == "answer":
        receiver.status = value
        receiver.answer_headers = {"Retry-After": "600"} if value == 429 else {}
    elif act == "retry":
        channel_services.retry(Delivery.objects.all(), now=bench.clock())
    else:
        config.enabled = act == "save"
        channel_services.save_channel(
            config, channel_secrets.unseal(config.sealed), who="anna", now=bench.clock()
        )
