"""Steps, groups and what both must not lose: who is told of an alert, when, and who is not."""

from collections.abc import Iterator
from datetime import time, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import channel_services, deliveries, services, tending
from monitoring.alerts.deliveries import LEASE_S, MOST_IN_GROUP, MOST_PAUSE_S
from monitoring.channels import ChannelError, Notice
from monitoring.channels.webhook import WebhookChannel
from monitoring.models import (
    Alert,
    AlertStep,
    ChannelConfig,
    Delivery,
    EscalationPolicy,
    EscalationStep,
    Rule,
    RuleState,
    Silence,
)
from tests.monitoring.alerting import HOST, Bench, TestChannel, at, make_rule, only_channel
from tests.monitoring.receivers import configure, http_receiver
from tests.monitoring.test_channels import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]
MIN = 60.0


class Receivers:
    """The end of every webhook, in place of the network: what each got, as one that knows keys; failing by plan."""

    def __init__(self) -> None:
        self.got: dict[str, list[Notice]] = {}
        self.error: Exception | None = None
        self.plan: list[str] = []

    def take(self, url: str, notice: Notice) -> None:
        act = self.plan.pop(0) if self.plan else "ok"
        if self.error is not None:
            raise self.error
        if act == "fail":
            raise ChannelError("away")
        if act == "refuse":
            raise ChannelError("no", permanent=True)
        if act == "kill before":
            raise Killed
        got = self.got.setdefault(url.rpartition("/")[2], [])
        if notice.key not in {each.key for each in got}:
            got.append(notice)
        if act == "kill after":
            raise Killed

    def events(self, name: str) -> list[str]:
        return [each.event for each in self.got.get(name, [])]

    def told(self, name: str) -> set[str]:
        """Keys of the outbox that the receiver was told, one by one or in a group."""
        return {key for each in self.got.get(name, []) for key in (each.group or (each.key,))}


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receivers]:
    found = Receivers()
    monkeypatch.setattr(WebhookChannel, "send", lambda self, notice: found.take(self.url, notice))
    with only_channel(TestChannel()):
        yield found


def channel(name: str, **values: Any) -> ChannelConfig:
    secrets = {"url": f"http://127.0.0.1:9/{name}", "signing_secret": SECRET}
    return configure("webhook", {}, secrets, name=name, **values)


def policy(*steps: tuple[int, list[ChannelConfig], int], **values: Any) -> EscalationPolicy:
    """Steps are (minutes, channels, least severity)."""
    found = EscalationPolicy.objects.create(
        **{"name": "Ops", "group_wait_s": 0, "is_default": True, **values}
    )
    for number, (after_min, channels, least) in enumerate(steps, 1):
        step = EscalationStep.objects.create(
            policy=found, number=number, after_min=after_min, least_severity=least
        )
        step.channels.set(channels)
    return found


def steps() -> list[tuple[int, str, str]]:
    return [(each.number, each.state, each.reason) for each in AlertStep.objects.order_by("alert", "number")]


@pytest.fixture
def bench(receivers: Receivers) -> Bench:
    """Junior at once, boss after 15 min, and the pager after 30."""
    make_rule(critical_at=98, repeat_s=0)
    junior, boss, pager = channel("junior"), channel("boss"), channel("pager")
    policy((0, [junior], 1), (15, [boss], 1), (30, [pager], 1))
    return Bench()


def all_events(receivers: Receivers) -> list[list[str]]:
    return [receivers.events(name) for name in ("junior", "boss", "pager")]


def test_steps_come_one_after_another_and_the_end_reaches_whom_the_fire_did(
    bench: Bench, receivers: Receivers
) -> None:
    bench.heat(95)
    bench.work()
    assert all_events(receivers) == [["fired"], [], []]
    bench.work(15 * MIN - 1)
    assert all_events(receivers) == [["fired"], [], []]
    bench.work(1)
    bench.work(1)
    assert all_events(receivers) == [["fired"], ["escalated"], []]
    assert (
        receivers.got["boss"][0].text
        == "Heat on box: still firing after 15 min and not acknowledged, worst 95 %"
    )
    bench.heat(50)
    bench.work()
    assert all_events(receivers) == [["fired", "resolved"], ["escalated", "resolved"], []]
    assert steps()[2] == (3, "skipped", "the alert was resolved before")
    assert not Delivery.objects.filter(config__name="pager").exists()
    assert [each.text for each in Alert.objects.get().entries.filter(kind="escalated")] == ["step 2: boss"]


def test_without_a_policy_every_channel_is_told_at_once(receivers: Receivers) -> None:
    make_rule()
    channel("junior")
    channel("boss")
    policy((0, [], 1), is_default=False)  # one that nobody names
    bench = Bench()
    bench.heat(95)
    bench.work()
    assert all_events(receivers) == [["fired"], ["fired"], []]
    assert not AlertStep.objects.exists()


def test_a_rule_may_name_a_policy_of_its_own(receivers: Receivers) -> None:
    junior, boss = channel("junior"), channel("boss")
    policy((0, [junior], 1))
    make_rule(policy=policy((0, [boss], 1), name="Night", is_default=False))
    bench = Bench()
    bench.heat(95)
    bench.work()
    assert all_events(receivers) == [[], ["fired"], []]
    assert Alert.objects.get().policy_name == "Night"


def test_a_rule_may_want_no_policy(bench: Bench, receivers: Receivers) -> None:
    Rule.objects.update(no_policy=True)
    bench.loop = Bench().loop
    bench.heat(95)
    bench.work(60 * MIN)
    assert all_events(receivers) == [["fired"], ["fired"], ["fired"]]
    assert Alert.objects.get().policy_name == ""
    assert not AlertStep.objects.exists()


def test_an_acknowledgement_stops_the_steps_and_its_end_goes_on_with_the_highest(
    bench: Bench, receivers: Receivers
) -> None:
    bench.heat(95)
    bench.work()
    services.acknowledge(Alert.objects.get().pk, who="ann", note="", until=at(45 * MIN), now=bench.clock())
    bench.work(40 * MIN)
    assert all_events(receivers) == [["fired"], [], []]
    assert [state for _, state, _ in steps()] == ["taken", "waiting", "waiting"]
    bench.work(10 * MIN)
    assert all_events(receivers) == [["fired", "reopened"], [], ["escalated"]]
    assert steps()[1] == (2, "skipped", "step 3 was overdue as well, and was taken instead")


def test_a_rise_in_severity_goes_on(bench: Bench, receivers: Receivers) -> None:
    bench.heat(95)
    bench.work()
    services.acknowledge(Alert.objects.get().pk, who="ann", note="", until=None, now=bench.clock())
    bench.work(20 * MIN)
    bench.heat(99)
    bench.work()
    assert all_events(receivers) == [["fired", "risen"], ["escalated"], []]


def test_a_step_for_critical_alerts_waits_for_the_rise(receivers: Receivers) -> None:
    make_rule(critical_at=98, repeat_s=0)
    junior, boss = channel("junior"), channel("boss")
    policy((0, [junior], 1), (0, [boss], 3))
    bench = Bench()
    bench.heat(95)
    bench.work(60 * MIN)
    assert all_events(receivers) == [["fired"], [], []]
    bench.heat(99)
    bench.work()
    assert all_events(receivers) == [["fired", "risen"], ["escalated"], []]


def test_of_steps_that_a_restart_finds_overdue_only_the_highest_runs(
    bench: Bench, receivers: Receivers
) -> None:
    bench.heat(95)
    bench.work()
    bench.restart()
    bench.work(3 * 60 * MIN)
    bench.work()
    assert all_events(receivers) == [["fired"], [], ["escalated"]]
    assert steps() == [
        (1, "taken", ""),
        (2, "skipped", "step 3 was overdue as well, and was taken instead"),
        (3, "taken", ""),
    ]


def test_a_silence_holds_the_steps_back_and_says_so(bench: Bench, receivers: Receivers) -> None:
    bench.heat(95)
    bench.work()
    silence = Silence(
        matchers="rule=Heat", start=at(10 * MIN), end=at(40 * MIN), author="ann", reason="works"
    )
    services.create_silence(silence)
    bench.work(20 * MIN)
    assert all_events(receivers) == [["fired"], [], []]
    assert steps()[1] == (2, "waiting", f"silence {silence.pk} of ann: works")
    bench.work(25 * MIN)
    bench.work()
    # At the end what still fires is told once to whom it was told, and the highest step that is overdue runs.
    assert all_events(receivers) == [["fired", "repeat"], [], ["escalated"]]


def test_a_fire_that_was_held_back_is_told_before_its_steps_go_on(bench: Bench, receivers: Receivers) -> None:
    silence = Silence(matchers="rule=Heat", start=at(0), end=at(20 * MIN), author="ann", reason="works")
    services.create_silence(silence)
    bench.heat(95)
    bench.work(19 * MIN)
    assert all_events(receivers) == [[], [], []]
    bench.work(2 * MIN)
    assert all_events(receivers) == [["fired"], ["escalated"], []]


def test_a_step_without_a_channel_that_is_on_makes_way_for_the_one_below(
    bench: Bench, receivers: Receivers
) -> None:
    bench.heat(95)
    bench.work()
    channel_services.delete_channel(ChannelConfig.objects.get(name="pager"), who="ann")
    bench.work(40 * MIN)
    assert all_events(receivers) == [["fired"], ["escalated"], []]
    assert steps()[2] == (3, "skipped", "its channels are off or deleted")


def test_quiet_hours_and_the_least_severity_of_a_channel_count_for_steps_too(receivers: Receivers) -> None:
    make_rule(repeat_s=0)
    junior = channel("junior", least_severity=3)
    boss = channel("boss", quiet_from=time(8, 0), quiet_to=time(9, 0))  # T0 is 8:00 UTC
    policy((0, [junior], 1), (15, [boss], 1))
    bench = Bench()
    bench.heat(95)
    bench.work(20 * MIN)
    assert all_events(receivers) == [[], [], []]
    assert junior.deliveries.get().reason == "this channel takes nothing below critical"
    assert boss.deliveries.get().reason == "quiet hours until 09:00 UTC"
    bench.work(40 * MIN)
    assert all_events(receivers) == [[], ["escalated"], []]


def test_a_policy_that_changes_leaves_open_alerts_as_they_are(bench: Bench, receivers: Receivers) -> None:
    bench.heat(95)
    bench.work()
    EscalationPolicy.objects.all().delete()
    bench.work(15 * MIN)
    assert all_events(receivers) == [["fired"], ["escalated"], []]


# Groups


@pytest.fixture
def grouping(receivers: Receivers, settings: Any) -> Bench:
    """Rules on a, b and c, and a channel that waits 30 s."""
    settings.ALERT_GROUP_WAIT_S = 30
    for name in "abc":
        make_rule(name=name, series=f"{name}_percent", critical_at=98)
    channel("junior")
    return Bench()


def test_fires_within_the_wait_go_out_as_one(grouping: Bench, receivers: Receivers) -> None:
    grouping.heat(None, a_percent=95.0)
    grouping.work()
    grouping.heat(None, a_percent=95.0, b_percent=96.0)
    grouping.work(27)
    assert receivers.events("junior") == []
    grouping.work(2)
    (notice,) = receivers.got["junior"]
    assert notice.text == "2 alerts on box:\n- a on box: 95 %, fires at 90 %\n- b on box: 96 %, fires at 90 %"
    assert (notice.title, notice.severity, notice.labels) == (
        "[warning] fired: 2 alerts",
        "warning",
        {"host": HOST},
    )
    rows = list(Delivery.objects.filter(config__name="junior"))
    assert notice.group == tuple(row.key for row in rows)
    assert notice.key == f"group:{rows[0].key}"
    assert {(row.status, row.reason) for row in rows} == {("sent", "in one message with 1 more")}
    grouping.heat(None, a_percent=50.0, b_percent=96.0)
    grouping.work()
    assert receivers.events("junior") == ["fired", "resolved"]  # each ends by itself


def test_a_webhook_gets_a_group_as_one_signed_body(settings: Any) -> None:
    settings.ALERT_GROUP_WAIT_S = 30
    for name in "ab":
        make_rule(name=name, series=f"{name}_percent")
    with http_receiver() as receiver:
        configure("webhook", {}, {"url": f"{receiver.url}/hook", "signing_secret": SECRET})
        bench = Bench()
        bench.heat(None, a_percent=95.0, b_percent=95.0)
        bench.work(30)
    (got,) = receiver.got
    keys = list(Delivery.objects.exclude(config=None).order_by("id").values_list("key", flat=True))
    assert got.json["group"] == keys
    assert got.json["key"] == got.headers["idempotency-key"] == f"group:{keys[0]}"


def test_what_is_always_there_does_not_wait(grouping: Bench) -> None:
    grouping.heat(None, a_percent=95.0)
    grouping.work()
    assert Delivery.objects.get(channel="test").status == "sent"


def test_a_critical_alert_goes_at_once_and_takes_along_what_waits(
    grouping: Bench, receivers: Receivers
) -> None:
    grouping.heat(None, a_percent=95.0)
    grouping.work()
    grouping.heat(None, a_percent=95.0, b_percent=99.0)
    grouping.work()
    (notice,) = receivers.got["junior"]
    assert (notice.severity, len(notice.group)) == ("critical", 2)
    grouping.heat(None, c_percent=99.0)
    grouping.work()
    assert receivers.events("junior") == ["fired", "fired"]
    assert receivers.got["junior"][1].group == ()


def test_who_resolves_within_the_wait_is_told_as_one_summary(grouping: Bench, receivers: Receivers) -> None:
    grouping.heat(None, a_percent=95.0, b_percent=95.0)
    grouping.heat(None, a_percent=50.0, b_percent=95.0)
    grouping.work()
    assert receivers.events("junior") == ["resolved"]
    grouping.work(30)
    assert receivers.events("junior") == ["resolved", "fired"]


def test_a_rise_does_not_wait_for_the_group(grouping: Bench, receivers: Receivers) -> None:
    grouping.heat(None, a_percent=95.0)
    grouping.work()
    grouping.heat(None, a_percent=99.0)
    grouping.work()
    assert receivers.events("junior") == ["risen"]


def test_nothing_joins_a_message_that_was_tried(grouping: Bench, receivers: Receivers) -> None:
    """A receiver that got it before the worker died would not look at the same key again."""
    grouping.heat(None, a_percent=95.0, b_percent=95.0)
    receivers.plan = ["kill after"]
    with pytest.raises(Killed):
        grouping.work(30)
    grouping.heat(None, a_percent=95.0, b_percent=95.0, c_percent=95.0)
    grouping.work(LEASE_S + 30)
    assert [len(each.group) for each in receivers.got["junior"]] == [2, 0]
    rows = Delivery.objects.filter(config__name="junior")
    assert receivers.told("junior") == {row.key for row in rows}
    assert {row.status for row in rows} == {"sent"}


def test_a_group_that_fails_is_tried_and_given_up_as_one_and_retried_one_by_one(
    grouping: Bench, receivers: Receivers
) -> None:
    receivers.error = ChannelError("no", permanent=True)
    grouping.heat(None, a_percent=95.0, b_percent=95.0)
    grouping.work(30)
    rows = Delivery.objects.filter(config__name="junior")
    assert [row.status for row in rows] == ["dead", "dead"]
    receivers.error = None
    assert channel_services.retry(Delivery.objects.all(), now=grouping.clock()) == 2
    grouping.work()
    assert receivers.told("junior") == {row.key for row in rows}
    assert [each.group for each in receivers.got["junior"]] == [(), ()]


def test_a_group_counts_as_one_send_of_its_channel(grouping: Bench) -> None:
    grouping.heat(None, a_percent=95.0, b_percent=95.0, c_percent=95.0)
    Delivery.objects.filter(channel="test").delete()
    grouping.now += 30
    assert deliveries.lease(grouping.clock()) is not None
    grouping.heat(None, d_percent=95.0)
    make_rule(name="other", series="other_percent", severity=3)
    grouping.restart()
    grouping.heat(None, other_percent=95.0)
    Delivery.objects.filter(channel="test").delete()
    leased = deliveries.lease(grouping.clock())
    assert leased is not None
    assert leased.alert.rule_name == "other"


def test_a_message_lists_so_many_and_no_more(receivers: Receivers, settings: Any) -> None:
    settings.ALERT_GROUP_WAIT_S = 30
    make_rule(series="disk_percent")
    channel("junior")
    bench = Bench()
    bench.heat(None, **{f"disk_percent{{mount=/{n}}}": 95.0 for n in range(MOST_IN_GROUP + 2)})
    bench.work(30)
    assert [len(each.group) for each in receivers.got["junior"]] == [MOST_IN_GROUP, 2]


def test_what_quiet_hours_hold_back_does_not_join_a_message(receivers: Receivers, settings: Any) -> None:
    settings.ALERT_GROUP_WAIT_S = 30
    for name in "ab":
        make_rule(name=name, series=f"{name}_percent", critical_at=98)
    channel("junior", quiet_from=time(8, 0), quiet_to=time(9, 0))
    bench = Bench()
    bench.heat(None, a_percent=95.0, b_percent=99.0)
    bench.work(30)
    (notice,) = receivers.got["junior"]
    assert (notice.labels["rule"], notice.group) == ("b", ())
    bench.work(60 * MIN)
    assert len(receivers.got["junior"]) == 2


# The evaluator


def test_a_late_evaluator_is_found_by_the_worker(receivers: Receivers) -> None:
    services.keep_default_rules()
    bench = Bench()
    for seconds in range(0, 20, 5):
        tending.watch_host(HOST, 1.0, 3.0, at(seconds))
    assert not Alert.objects.exists()
    for seconds in range(20, 35, 5):
        tending.watch_host(HOST, 1.0, 4.0, at(seconds))
    alert = Alert.objects.get()
    assert (alert.rule_name, alert.severity_name, alert.fired_at) == ("Evaluator late", "critical", at(30))
    tending.watch_host(HOST, 1.0, None, at(35))  # unknown is not well
    tending.watch_host(HOST, 1.0, 0.0, at(40))
    tending.watch_host(HOST, 1.0, 0.0, at(50))
    alert.refresh_from_db()
    assert alert.resolved_at == at(50)
    bench.heat(None, evaluator_lag_s=100.0)  # who is late does not judge that
    assert Alert.objects.count() == 1


def test_the_lag_is_that_of_the_newest_sample_that_was_judged() -> None:
    make_rule()
    bench = Bench()
    assert bench.loop.lag_s == 0
    bench.heat(50)
    for seconds in (2, 3, 4):
        bench.loop.feed({"at": at(seconds).timestamp(), "v": {"heat_percent": 50.0}})
    assert bench.loop.lag_s == 3
    bench.loop.take_next()
    assert bench.loop.lag_s == 2
    bench.loop.feed({"at": at(5).timestamp(), "v": {"heat_percent": "broken"}})
    while bench.loop.waiting:
        bench.loop.take_next()
    assert bench.loop.lag_s == 1  # a sample that can't be judged was not


# Whatever happens


ACTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("heat"), st.sampled_from([50.0, 95.0, 99.0, None]), st.sampled_from([50.0, 95.0, None])
        ),
        st.tuples(st.just("work"), st.sampled_from([0, 5, 31, 100, 1000, 20000]), st.none()),
        st.tuples(
            st.sampled_from(["restart", "acknowledge", "resolve", "silence", "unsilence", "drop policy"]),
            st.none(),
            st.none(),
        ),
    ),
    max_size=25,
)
OUTCOMES = st.lists(st.sampled_from(["ok", "fail", "refuse", "kill before", "kill after"]), max_size=15)


@settings(max_examples=60, deadline=None)
@given(ACTS, OUTCOMES, st.sampled_from([0, 30]))
def test_every_firing_is_sent_or_held_back_with_a_reason_or_given_up(
    django_db_blocker: Any, acts: list[tuple[str, Any, Any]], plan: list[str], wait: int
) -> None:
    receivers, send = Receivers(), WebhookChannel.send
    receivers.plan = list(plan)
    WebhookChannel.send = lambda self, notice: receivers.take(self.url, notice)  # type: ignore[method-assign]
    try:
        with django_db_blocker.unblock(), transaction.atomic(), only_channel(TestChannel()):
            make_rule(critical_at=98, cooldown_s=200)
            make_rule(name="Cold", series="cold_percent")
            names = [channel(name).name for name in ("junior", "boss", "pager")]
            junior, boss, pager = ChannelConfig.objects.order_by("pk")
            policy((0, [junior], 1), (15, [boss], 1), (20, [pager], 3), group_wait_s=wait)
            bench = Bench()
            for act in acts:
                _do(bench, *act)
            receivers.plan = []
            for _ in range(4):
                _work(bench, LEASE_S + MOST_PAUSE_S)
            _check(bench, receivers, names)
            transaction.set_rollback(True)
    finally:
        WebhookChannel.send = send  # type: ignore[method-assign]


def _check(bench: Bench, receivers: Receivers, names: list[str]) -> None:
    for row in Delivery.objects.select_related("config", "alert"):
        assert row.status in ("sent", "dead", "folded", "suppressed"), row
        assert row.reason or row.status in ("sent", "dead"), row
        if row.config is not None:
            assert (row.key in receivers.told(row.config.name)) or row.status != "sent", row
        if row.status == "folded":
            by = Delivery.objects.get(key=row.reason.removeprefix("said by "))
            assert (by.alert_id, by.channel) == (row.alert_id, row.channel)
    for name in names:
        keys = [each.key for each in receivers.got.get(name, [])]
        assert len(keys) == len(set(keys))
    for alert in Alert.objects.all():
        assert alert.deliveries.filter(event="fired").exists()
        ended = alert.deliveries.filter(event="resolved").exclude(status="suppressed")
        told = alert.deliveries.exclude(event="resolved").exclude(status="suppressed")
        assert {row.channel for row in ended} <= {row.channel for row in told}
        flaps = RuleState.objects.get(pk=alert.fingerprint).memory["flapping"]
        silenced = any(each.is_active(bench.clock()) for each in Silence.objects.all())
        for step in alert.steps.all():
            assert step.reason or step.state != "skipped"
            stays = not alert.is_open or alert.acknowledged_at or flaps or silenced
            due = step.due_at <= bench.clock() and step.least_severity <= alert.severity
            assert stays or not due or step.state != "waiting", "an overdue step that nobody takes"
            assert alert.is_open or step.state != "waiting"


def _do(bench: Bench, act: str, value: Any, other: Any) -> None:
    is_open = Alert.objects.filter(resolved_at=None).first()
    if act == "heat":
        bench.heat(value, cold_percent=other)
    elif act == "work":
        _work(bench, value)
    elif act == "restart":
        bench.restart()
    elif act == "silence":
        silence = Silence(
            matchers="rule=Heat",
            start=bench.clock(),
            end=bench.clock() + timedelta(5 * MIN),
            author="a",
            reason="b",
        )
        services.create_silence(silence)
    elif act == "unsilence":
        for each in Silence.objects.filter(end__gt=bench.clock()):
            services.end_silence(each.pk, now=bench.clock())
    elif act == "drop policy":
        EscalationPolicy.objects.all().delete()
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


def test_the_rules_name_is_kept_when_its_policy_goes(receivers: Receivers) -> None:
    rule = make_rule(policy=policy((0, [channel("junior")], 1), is_default=False))
    EscalationPolicy.objects.all().delete()
    assert Rule.objects.get(pk=rule.pk).policy is None
