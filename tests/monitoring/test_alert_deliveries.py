"""From the outbox to the channel: order, retries, what is held back and why, and that nothing is lost or said twice."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import deliveries, services, tending
from monitoring.alerts.deliveries import LEASE_S, MOST_PAUSE_S, pause_s
from monitoring.alerts.notices import NoticeEvent, held_back
from monitoring.channels import CHANNELS
from monitoring.channels.base import ChannelError, Notice
from monitoring.channels.log import LogChannel
from monitoring.models import Alert, Delivery, Rule, RuleState, Silence
from monitoring.models.delivery import GIVE_UP_AFTER
from monitoring.models.rule import SAMPLE_AGE
from tests.monitoring.alerting import HOST, Bench, TestChannel, at, make_rule, only_channel

pytestmark = pytest.mark.django_db
LOG = django_settings.LOG_DIR / "alerts.log"


@pytest.fixture
def channel() -> Iterator[TestChannel]:
    channel = TestChannel()
    with only_channel(channel):
        yield channel


@pytest.fixture
def bench(channel: TestChannel) -> Bench:
    make_rule()
    return Bench()


def reasons() -> list[str]:
    return list(Delivery.objects.filter(status="suppressed").values_list("reason", flat=True))


def silence(start: float, end: float, matchers: str = "rule=Heat") -> Silence:
    found = Silence(matchers=matchers, start=at(start), end=at(end), author="admin", reason="works")
    services.create_silence(found)
    return found


def test_fire_and_resolve_are_told_once_each(bench: Bench, channel: TestChannel) -> None:
    bench.heat(95)
    bench.work()
    bench.work()
    bench.heat(50)
    bench.work()
    alert = Alert.objects.get()
    assert [each.key for each in channel.got] == [f"{alert.pk}:fired:1:test", f"{alert.pk}:resolved:2:test"]
    assert channel.got[1].text == "Heat on box: resolved after 1 s, worst 95 %"
    assert [each.attempt for each in channel.got] == [1, 1]


def test_a_late_pair_becomes_one_summary(bench: Bench, channel: TestChannel) -> None:
    channel.error = ChannelError("away")
    bench.heat(95)
    bench.work()
    bench.heat(50)
    channel.error = None
    bench.work()
    assert channel.events == ["resolved"]
    assert channel.got[0].text == "Heat on box: 95 %, fires at 90 %; resolved after 1 s, worst 95 %"
    fired, resolved = Delivery.objects.all()
    assert (fired.status, fired.reason) == ("folded", f"said by {resolved.key}")


def test_what_fails_is_tried_again_for_a_day_then_given_up(bench: Bench, channel: TestChannel) -> None:
    channel.error = OSError("no route")
    bench.heat(95)
    fired: Delivery | None = None
    for _ in range(400):
        bench.work(300)
        if fired := Delivery.objects.filter(status="dead").first():
            break
        waiting = Delivery.objects.get(status="waiting")  # a repeat takes the place of what waits
        assert 0 <= (waiting.due_at - bench.clock()).total_seconds() <= MOST_PAUSE_S
    assert fired is not None
    assert fired.last_error == "OSError: no route"
    assert 0 <= bench.now - GIVE_UP_AFTER.total_seconds() <= MOST_PAUSE_S + 600
    assert channel.n_tried > 90


def test_a_permanent_error_is_given_up_at_once_and_the_log_hears_of_it(valkey_url: str) -> None:
    make_rule()
    bench, channel = Bench(), TestChannel()
    CHANNELS["test"] = channel
    try:
        channel.error = ChannelError("gone: 404", permanent=True)
        bench.heat(95)
        bench.work()
    finally:
        del CHANNELS["test"]
    assert [(each.channel, each.event, each.status) for each in Delivery.objects.all()] == [
        ("log", "fired", "sent"),
        ("test", "fired", "dead"),
        ("log", "undelivered", "sent"),
    ]
    assert "test could not deliver" in LOG.read_text().splitlines()[-1]


def test_a_receiver_that_asks_for_a_pause_gets_it(bench: Bench, channel: TestChannel) -> None:
    channel.error = ChannelError("too many", retry_after_s=1234)
    bench.heat(95)
    bench.work()
    assert Delivery.objects.get().due_at == bench.clock() + timedelta(seconds=1234)


@given(st.integers(1, 1000), st.floats(0, 1))
def test_pauses_grow_from_seconds_to_a_quarter_of_an_hour(attempts: int, chance: float) -> None:
    assert 0 <= pause_s(attempts, chance) <= min(5 * 2 ** min(attempts - 1, 20), 900)
    assert pause_s(1, 1) == 5
    assert pause_s(50, 1) == 900


def test_a_lease_keeps_others_away_until_it_ends(bench: Bench) -> None:
    bench.heat(95)
    first = deliveries.lease(bench.clock())
    assert first is not None
    assert deliveries.lease(bench.clock()) is None
    bench.now += LEASE_S
    second = deliveries.lease(bench.clock())
    assert second is not None
    assert (second.pk, second.attempts) == (first.pk, 2)
    # the one that lost its lease marks nothing
    deliveries._mark(first, status="dead")
    assert Delivery.objects.get().status == "waiting"


def test_a_clock_that_is_set_back_keeps_no_notice_waiting(bench: Bench, channel: TestChannel) -> None:
    day = 86_400.0
    bench.now += day  # it is a day ahead
    channel.error = ChannelError("no answer")
    bench.heat(95)
    bench.work()
    assert channel.n_tried == 1
    bench.now -= day
    bench.work()
    assert channel.n_tried == 2  # not a day later,
    bench.work()
    assert channel.n_tried == 2  # and with its pauses from then on
    channel.error = None
    bench.work(MOST_PAUSE_S)
    assert channel.events == ["fired"]


def test_a_lease_of_a_clock_that_was_set_back_holds_nothing_up(bench: Bench, channel: TestChannel) -> None:
    bench.now += 3600
    bench.heat(95)
    assert deliveries.lease(bench.clock()) is not None  # and its worker dies
    bench.now -= 3600
    bench.work()
    assert channel.events == ["fired"]


def test_notices_of_an_episode_keep_their_order(bench: Bench, channel: TestChannel) -> None:
    bench.heat(95)
    leased = deliveries.lease(bench.clock())
    assert leased is not None
    bench.heat(50)
    bench.work()
    assert channel.events == []  # the first one is on its way
    deliveries.send(leased, bench.clock)
    bench.work()
    assert channel.events == ["fired", "resolved"]


def test_repeats_come_until_somebody_acknowledges(bench: Bench, channel: TestChannel) -> None:
    bench.heat(95)
    bench.work()
    bench.work(4 * 3600 - 10)
    bench.work(20)
    assert channel.events == ["fired", "repeat"]
    alert = Alert.objects.get()
    services.acknowledge(alert.pk, who="admin", note="on it", until=None, now=bench.clock())
    bench.work(10 * 3600)
    assert channel.events == ["fired", "repeat"]
    bench.heat(50)
    bench.work()
    alert.refresh_from_db()
    assert channel.events[-1] == "resolved"
    assert alert.acknowledged_at is None


def test_the_end_of_an_acknowledgement_and_a_rise_in_severity_reopen(channel: TestChannel) -> None:
    make_rule(critical_at=98)
    bench = Bench()
    bench.heat(95)
    alert = Alert.objects.get()
    bench.work()
    services.acknowledge(alert.pk, who="admin", note="x", until=at(100), now=bench.clock())
    bench.work(100)
    assert channel.events == ["fired", "reopened"]
    services.acknowledge(alert.pk, who="admin", note="x", until=None, now=bench.clock())
    bench.heat(99)
    bench.work()
    alert.refresh_from_db()
    assert channel.events == ["fired", "reopened", "risen"]
    assert (alert.severity_name, alert.acknowledged_at) == ("critical", None)
    kinds = [each.kind for each in alert.entries.all()]
    assert kinds == ["fired", "acknowledged", "reopened", "acknowledged", "risen"]


def test_the_cooldown_holds_back_and_what_still_fires_is_told_after_it(channel: TestChannel) -> None:
    make_rule(cooldown_s=300)
    bench = Bench()
    bench.heat(95)
    bench.work()
    bench.heat(50)
    bench.work()
    bench.heat(95)
    bench.work()
    assert channel.events == ["fired", "resolved"]
    assert reasons() == ["cooldown: the last notice was 1 s ago"]
    bench.work(300)
    assert channel.events == ["fired", "resolved", "fired"]


def test_a_rise_in_severity_passes_the_cooldown_from_one_episode_to_the_next(channel: TestChannel) -> None:
    make_rule(critical_at=98, cooldown_s=300)
    bench = Bench()
    for value in (95, 50, 99, 50, 99):
        bench.heat(value)
        bench.work()
    assert [(each.event, each.severity) for each in channel.got] == [
        ("fired", "warning"), ("resolved", "warning"), ("fired", "critical"), ("flapping", "critical"),
    ]  # fmt: skip


def test_a_resolve_goes_only_to_whom_the_fire_was_told(channel: TestChannel) -> None:
    make_rule(cooldown_s=3600)
    bench = Bench()
    bench.heat(95, 50, 95)
    bench.now += 1000
    bench.heat(50)
    bench.work()
    assert channel.events == ["resolved"]  # with the first fire folded in
    assert reasons() == ["cooldown: the last notice was 1 s ago", "this channel was not told that it fired"]


def test_a_silence_holds_back_and_at_its_end_what_still_fires_is_told_once(
    bench: Bench, channel: TestChannel
) -> None:
    silence(0, 1000)
    bench.heat(95)
    bench.work()
    assert (channel.events, reasons()) == (
        [],
        ["silence 1 of admin: works".replace("1", str(Silence.objects.get().pk))],
    )
    bench.work(1000)
    bench.work()
    assert channel.events == ["fired"]
    later = silence(1100, 2000)
    bench.now = 1990
    bench.work()
    bench.work(20)
    bench.work()
    assert channel.events == ["fired", "repeat"]
    later.refresh_from_db()
    assert later.closed


def test_an_ended_silence_holds_nothing_back(bench: Bench, channel: TestChannel) -> None:
    services.end_silence(silence(0, 1000).pk, now=at(1))
    services.end_silence(silence(500, 1000).pk, now=at(1))  # not begun: it goes
    silence(0, 1000, "rule=Other")
    bench.now = 2
    bench.heat(95)
    bench.work()
    assert channel.events == ["fired"]
    assert Silence.objects.count() == 2


def test_a_critical_alert_inhibits_the_warning_of_the_same_series(channel: TestChannel) -> None:
    make_rule(name="Hot", severity=3, fire_at=95)
    make_rule(for_s=1)
    bench = Bench()
    bench.heat(96, 96)
    bench.work()
    assert [(each.event, each.severity) for each in channel.got] == [("fired", "critical")]
    critical = Alert.objects.get(severity=3)
    assert reasons() == [f"inhibited by the critical alert {critical.pk}"]
    bench.heat(92, 92)
    services.resolve(critical.pk, who="admin", note="", now=bench.clock())
    bench.heat(92, 92, 92)
    bench.work()
    assert [each.severity for each in channel.got][-1] == "warning"


def test_flapping_is_told_once_then_held_back_until_it_is_calm(bench: Bench, channel: TestChannel) -> None:
    for _ in range(6):
        bench.heat(95)
        bench.work()
        bench.heat(50)
        bench.work()
    assert channel.events == ["fired", "resolved", "fired", "flapping"]
    bench.heat(95)
    bench.work()
    assert channel.events[4:] == []
    bench.now += 900
    bench.heat(95)
    bench.work()
    assert channel.events[4:] == ["fired"]


def test_who_heard_that_it_flaps_hears_how_it_ended(bench: Bench, channel: TestChannel) -> None:
    for value in (95, 50, 95, 50):
        bench.heat(value)
        bench.work()
    assert channel.events == ["fired", "resolved", "fired", "flapping"]
    bench.now += 900
    bench.heat(50)
    bench.work()
    assert channel.events[4:] == ["resolved"]
    assert channel.got[-1].text == "Heat on box: quiet for 15 min: resolved"
    assert channel.got[-1].alert_id == channel.got[-2].alert_id
    bench.heat(50)
    bench.work(4 * 3600)
    assert len(channel.events) == 5


def test_an_alert_that_flapped_and_stays_is_told_when_it_is_calm(bench: Bench, channel: TestChannel) -> None:
    for _ in range(3):  # ended by hand it fires anew, so the fourth turn of these is a fire
        bench.heat(95, 95, 95)  # an end by hand is read within 2 s
        bench.work()
        services.resolve(Alert.objects.get(resolved_at=None).pk, who="admin", note="", now=bench.clock())
    bench.heat(95, 95, 95)
    bench.work()
    assert channel.events[-1] == "flapping"
    n = len(channel.events)
    bench.now += 900
    bench.heat(95)
    bench.work()
    assert channel.events[n:] == ["repeat"]
    assert [each.kind for each in Alert.objects.get(resolved_at=None).entries.all()][-1] == "calm"


def test_a_silent_host_is_found_and_inhibits_its_other_alerts(bench: Bench, channel: TestChannel) -> None:
    bench.heat(95)
    bench.work()
    for seconds in range(0, 40, 5):
        tending.watch_host(HOST, float(seconds), 0.0, at(bench.now + seconds))
    bench.work(40)
    bench.work(4 * 3600)
    assert channel.events == ["fired", "fired", "repeat"]
    silent = Alert.objects.get(series=SAMPLE_AGE)
    assert reasons() == [f"inhibited by alert {silent.pk}: the host is silent"]
    tending.watch_host(HOST, 1.0, 0.0, bench.clock())
    bench.now += 10
    tending.watch_host(HOST, 1.0, 0.0, bench.clock())
    bench.work()
    assert channel.events[-1] == "resolved"
    tending.watch_host(HOST, None, None, bench.clock())  # a host that was never heard is not silent
    assert Alert.objects.filter(resolved_at=None).count() == 1


def notice(key: str, attempt: int = 1) -> Notice:
    return Notice(key, "fired", 1, "warning", {}, "Heat on box:\n95 %", at(0), attempt)


def test_the_log_has_one_line_a_key() -> None:
    LOG.unlink(missing_ok=True)
    for each in (notice("7:fired:1:log"), notice("7:fired:1:log", 2), notice("17:fired:1:log", 2)):
        LogChannel().send(each)
    assert LOG.read_text().splitlines() == [
        "2027-01-15T08:00:00Z warning fired Heat on box: 95 % key=7:fired:1:log",
        "2027-01-15T08:00:00Z warning fired Heat on box: 95 % key=17:fired:1:log",
    ]


def test_a_line_that_was_cut_short_does_not_count() -> None:
    LOG.write_text("2027-01-15T08:00:00Z warning fired Heat key=7:fired:1:l")
    LogChannel().send(notice("7:fired:1:log", 2))
    assert LOG.read_text().splitlines()[1].endswith(" key=7:fired:1:log")


def test_a_log_that_can_not_be_written_is_said_and_tried_again(tmp_path: Any, settings: Any) -> None:
    (tmp_path / "file").touch()
    settings.LOG_DIR = tmp_path / "file" / "logs"
    with pytest.raises(ChannelError, match="can't be written"):
        LogChannel().send(notice("7:fired:1:log"))


def test_old_episodes_go_and_open_ones_stay(bench: Bench) -> None:
    bench.heat(95, 50, 95)
    tending.delete_old(at(399 * 86400))
    assert Alert.objects.count() == 2
    tending.delete_old(at(401 * 86400))
    assert Alert.objects.get().is_open


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


class Unreliable(TestChannel):
    """By plan: delivers, fails, is killed before or after the delivery."""

    plan: list[str]

    def send(self, notice: Notice) -> None:
        act = self.plan.pop(0) if self.plan else "ok"
        if act == "fail":
            raise ChannelError("away")
        if act == "refuse":
            raise ChannelError("no", permanent=True)
        if act == "kill before":
            raise Killed
        if notice.key not in {each.key for each in self.got}:  # as a receiver that knows keys
            self.got.append(notice)
        if act == "kill after":
            raise Killed


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("heat"), st.sampled_from([50.0, 95.0, 99.0, None]), st.integers(1, 4)),
        st.tuples(st.just("work"), st.just(None), st.sampled_from([0, 5, 100, 1000, 20000])),
        st.tuples(
            st.sampled_from(["restart", "acknowledge", "resolve", "silence", "unsilence"]),
            st.just(None),
            st.just(0),
        ),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ACTS, st.lists(st.sampled_from(["ok", "fail", "refuse", "kill before", "kill after"]), max_size=15))
def test_every_firing_is_sent_or_held_back_with_a_reason_or_given_up(
    django_db_blocker: Any, acts: list[tuple[str, Any, int]], plan: list[str]
) -> None:
    channel = Unreliable()
    channel.plan = list(plan)
    with django_db_blocker.unblock(), transaction.atomic(), only_channel(channel):
        make_rule(critical_at=98, cooldown_s=200)
        bench = Bench()
        for act, value, n in acts:
            _do(bench, act, value, n)
        channel.plan = []
        for _ in range(3):
            _work(bench, LEASE_S + MOST_PAUSE_S)
        for alert in Alert.objects.all():
            fires = alert.deliveries.filter(event="fired")
            assert fires.exists()
            for row in alert.deliveries.all():
                assert row.status in ("sent", "dead", "folded", "suppressed"), row
                assert row.reason or row.status in ("sent", "dead")
                assert (row.key in {each.key for each in channel.got}) or row.status != "sent"
            if alert.is_open and not RuleState.objects.get().memory["flapping"]:
                silenced = any(each.is_active(bench.clock()) for each in Silence.objects.all())
                known = alert.told_at is not None or alert.acknowledged_at is not None
                assert known or silenced, "an open alert that nobody was told of"
            if alert.end_untold:
                assert alert.told_at is not None
                assert held_back(alert, NoticeEvent.RESOLVED, bench.clock()), "its end is told to nobody"
        keys = [each.key for each in channel.got]
        assert len(keys) == len(set(keys))
        assert Rule.objects.count() >= 1
        transaction.set_rollback(True)


def _do(bench: Bench, act: str, value: Any, n: int) -> None:
    is_open = Alert.objects.filter(resolved_at=None).first()
    if act == "heat":
        bench.heat(*[value] * n)
    elif act == "work":
        _work(bench, n)
    elif act == "restart":
        bench.restart()
    elif act == "silence":
        silence(bench.now, bench.now + 5000)
    elif act == "unsilence":
        for each in Silence.objects.filter(end__gt=bench.clock()):
            services.end_silence(each.pk, now=bench.clock())
    elif is_open is not None and act == "acknowledge":
        until = bench.clock() + timedelta(seconds=500)
        services.acknowledge(is_open.pk, who="admin", note="x", until=until, now=bench.clock())
    elif is_open is not None and act == "resolve":
        services.resolve(is_open.pk, who="admin", note="", now=bench.clock())


def _work(bench: Bench, seconds: float) -> None:
    try:
        bench.work(seconds)
    except Killed:
        return
