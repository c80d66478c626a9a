"""The collector's part: from samples to stored states, episodes and outbox rows."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import services
from monitoring.alerts.loop import AlertLoop
from monitoring.models import Alert, AlertEntry, Delivery, Event, Rule, RuleState
from monitoring.models.rule import SetBy
from monitoring.services import SampleWriter
from tests.monitoring.alerting import HOST, T0, Bench, at, make_rule, sample
from tests.product import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def bench() -> Bench:
    make_rule()
    return Bench()


def test_a_firing_is_an_episode_an_event_and_a_notice(bench: Bench) -> None:
    bench.heat(50, 95)
    alert = Alert.objects.get()
    assert (alert.rule_name, alert.value, alert.state, alert.fired_at) == ("Heat", 95, "firing", at(2))
    assert alert.labels == {"host": HOST, "metric": "heat_percent", "rule": "Heat"}
    assert Delivery.objects.get().key == f"{alert.pk}:fired:1:log"
    assert Event.objects.get(kind="alert").text == "Heat on box: 95 %, fires at 90 %"
    bench.heat(97, 50)
    alert.refresh_from_db()
    assert (alert.state, alert.peak, alert.resolved_at) == ("resolved", 97, at(4))
    assert [each.kind for each in AlertEntry.objects.all()] == ["fired", "resolved"]
    assert Delivery.objects.last().text == "Heat on box: resolved after 2 s, worst 97 %"  # type: ignore[union-attr]


def test_each_series_has_its_own_episode() -> None:
    make_rule(series="disk_percent")
    bench = Bench()
    bench.heat(
        None, **{"disk_percent{mount=/}": 95.0, "disk_percent{mount=/a}": 96.0, "disk_percent{mount=/b}": 1.0}
    )
    assert sorted(each.where for each in Alert.objects.all()) == ["box, mount /", "box, mount /a"]


def test_a_rule_of_one_host_leaves_the_others_alone(valkey_url: str) -> None:
    make_rule(series="heat_percent{host=attic}")
    make_rule(name="Elsewhere", series="heat_percent{host!=attic}")
    for host in ("attic", "box"):
        bench = Bench()
        bench.loop = AlertLoop(host)
        bench.heat(95)
    assert set(Alert.objects.values_list("host", "rule_name")) == {("attic", "Heat"), ("box", "Elsewhere")}


def test_nothing_is_written_while_nothing_changes(bench: Bench, django_assert_max_num_queries: Any) -> None:
    bench.heat(50)
    with django_assert_max_num_queries(6):  # the revision, every two seconds
        bench.heat(*[50.0 + n for n in range(10)])
    assert not RuleState.objects.exists()


@contextmanager
def failing(words: str) -> Iterator[None]:
    """Every statement with `words` fails, as when the database goes away in the middle."""

    def fail(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if words in sql:
            raise OperationalError("gone")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail):
        yield


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "words",
    [
        'INSERT INTO "monitoring_rulestate"',
        'INSERT INTO "monitoring_alert"',
        'INSERT INTO "monitoring_delivery"',
        'INSERT INTO "monitoring_event"',
        'UPDATE "monitoring_rulestate"',
        "monitoring_rule",
    ],
)
def test_while_the_database_is_away_transitions_wait_with_their_own_times(
    words: str, valkey_url: str
) -> None:
    make_rule()
    bench = Bench()
    bench.heat(50)
    with failing(words):
        bench.heat(95, 99, 50, 50, 96)
    assert not Alert.objects.exists()
    assert not Delivery.objects.exists()
    assert not RuleState.objects.exists()
    bench.heat(97)
    assert [(each.fired_at, each.resolved_at, each.peak) for each in Alert.objects.order_by("id")] == [
        (at(2), at(4), 99),
        (at(6), None, 96),
    ]
    assert [each.event for each in Delivery.objects.all()] == ["fired", "resolved", "fired"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's lock")
def test_a_locked_database_is_waited_for(valkey_url: str) -> None:
    make_rule()
    bench = Bench()
    bench.heat(50)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.heat(95)
    assert len(bench.loop.waiting) == 0  # it was evaluated; its step waits
    bench.heat(96)
    assert not Alert.objects.exists()
    other.execute("ROLLBACK")
    other.close()
    bench.heat(97)
    assert Alert.objects.get().fired_at == at(2)
    connection.close()


def test_an_answer_that_was_lost_writes_nothing_twice(bench: Bench) -> None:
    bench.heat(50)
    bench.loop.feed(sample(2, heat_percent=95))
    evaluator = bench.loop._ready(T0 + 2)
    steps = evaluator.evaluate(T0 + 2, {"heat_percent": 95})
    bench.loop._unstored = [*steps, *steps]
    bench.loop.store_unstored()
    assert Alert.objects.count() == Delivery.objects.count() == 1


@pytest.mark.parametrize("gap", [1, 7, 16])
def test_restarts_change_nothing(gap: int) -> None:
    make_rule(for_s=5, keep_firing_for_s=5, window_s=4, aggregate="mean")
    heat = [50.0] * 5 + [95.0] * 20 + [50.0] * 20 + [99.0] * 12
    writer, told = SampleWriter(HOST, 168), []
    for restarts in (False, True):
        Alert.objects.all().delete()
        RuleState.objects.all().delete()
        bench = Bench()
        for second, value in enumerate(heat):
            if restarts and second % gap == 0:
                bench.restart()
            bench.heat(value)
            writer.write(T0 + bench.now, {"heat_percent": value})
        told.append([(each.fired_at, each.resolved_at) for each in Alert.objects.order_by("id")])
    assert told[0] == told[1]
    assert len(told[0]) == 2


def test_a_pending_rule_does_not_fire_for_the_time_in_which_nobody_looked() -> None:
    make_rule(for_s=60)
    bench = Bench()
    bench.heat(*[95] * 30)
    bench.restart()
    bench.now += 3600
    bench.heat(*[95] * 59)
    assert not Alert.objects.exists()
    bench.heat(95, 95)
    assert Alert.objects.count() == 1


def test_two_collectors_at_once_make_one_episode(bench: Bench) -> None:
    other = Bench()
    bench.heat(50)
    other.heat(50)
    bench.heat(95)
    other.heat(95, 96, 97)
    assert Alert.objects.count() == 1
    other.heat(50)
    bench.heat(96, 50, 50)
    assert Alert.objects.get().resolved_at == at(5)


def test_an_edited_rule_is_used_within_seconds(bench: Bench) -> None:
    bench.heat(50, 50)
    rule = Rule.objects.get(name="Heat")
    rule.fire_at, rule.clear_at = 40, 35
    services.save_rule(rule, "admin", at(2))
    bench.heat(50, 50, 50)
    assert Alert.objects.get().fire_at == 40
    rule.enabled = False
    services.save_rule(rule, "admin", at(5))
    assert Alert.objects.get().entries.last().text == "the rule was switched off"  # type: ignore[union-attr]
    bench.heat(99, 99, 99, 99)
    assert Alert.objects.count() == 1


def test_resolved_by_hand_it_fires_anew_while_the_condition_lasts(bench: Bench) -> None:
    bench.heat(95)
    services.resolve(Alert.objects.get().pk, who="admin", note="seen", now=at(1))
    bench.heat(95, 95, 95)
    first, second = Alert.objects.order_by("id")
    assert (first.resolved_by, second.is_open) == ("admin", True)
    with pytest.raises(services.NotOpenError):
        services.resolve(first.pk, who="admin", note="", now=at(5))


def test_a_deleted_rule_leaves_its_past(bench: Bench) -> None:
    bench.heat(95)
    services.delete_rule(Rule.objects.get(name="Heat"), "admin", at(2))
    bench.heat(95, 95, 95)
    alert = Alert.objects.get()
    assert (alert.is_open, alert.rule, alert.rule_name) == (False, None, "Heat")


def test_a_sample_that_can_not_be_evaluated_costs_only_itself(bench: Bench) -> None:
    bench.heat(50)
    bench.loop.feed({"at": T0 + 2, "v": {"heat_percent": "broken"}})
    assert bench.loop.take_next()
    bench.now = 2
    bench.heat(95)
    assert Alert.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_thread_evaluates_what_it_is_fed_and_ends(valkey_url: str) -> None:
    make_rule()
    loop = AlertLoop(HOST)
    loop.start()
    loop.feed(sample(1, heat_percent=95))
    wait_for(Alert.objects.exists, "the thread has stored the alert")
    loop.close()
    assert not loop._thread.is_alive()


def test_default_rules_follow_the_configuration_until_somebody_sets_them() -> None:
    services.keep_default_rules()
    memory, cpu = Rule.objects.get(key="memory"), Rule.objects.get(key="cpu")
    assert (memory.fire_at, memory.clear_at, cpu.fire_at) == (90, 85, 95)
    assert Rule.objects.exclude(key=None).count() == 14
    for rule in Rule.objects.all():
        rule.full_clean()
    Rule.objects.filter(key="cpu").update(fire_at=50)
    memory.fire_at = 70
    services.save_rule(memory, "admin", at(0))
    services.keep_default_rules()
    assert list(
        Rule.objects.filter(key__in=("cpu", "memory")).order_by("key").values_list("fire_at", "set_by")
    ) == [
        (95, SetBy.CONFIG),
        (70, SetBy.PERSON),
    ]


def test_a_profile_sets_thresholds_and_gives_them_back() -> None:
    services.apply_thresholds(memory_percent=85, cpu_percent=80, for_s=15, note="profile hardware_low_end")
    memory = Rule.objects.get(key="memory")
    assert (memory.fire_at, memory.clear_at, memory.for_s, memory.set_by) == (85, 80, 15, SetBy.PROFILE)
    services.keep_default_rules()  # the next start
    assert Rule.objects.get(key="cpu").fire_at == 80
    services.apply_thresholds(memory_percent=None, cpu_percent=None, for_s=None, note="profile balanced")
    memory.refresh_from_db()
    assert (memory.fire_at, memory.for_s, memory.set_by) == (90, 60, SetBy.CONFIG)
    memory.fire_at = 70
    services.save_rule(memory, "admin", at(0))
    services.apply_thresholds(memory_percent=None, cpu_percent=70, for_s=None, note="profile x")
    memory.refresh_from_db()
    assert memory.fire_at == 70


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, 50.0, 87.0, 95.0, 99.0]), st.integers(1, 8), st.booleans()),
        max_size=12,
    )
)
def test_no_fingerprint_ever_has_two_open_episodes(
    django_db_blocker: Any, steps: list[tuple[float | None, int, bool]]
) -> None:
    from django.db import transaction

    with django_db_blocker.unblock(), transaction.atomic():
        make_rule(for_s=2, keep_firing_for_s=2, critical_at=98)
        bench = Bench()
        for value, seconds, restart in steps:
            if restart:
                bench.restart()
            bench.heat(*[value] * seconds)
            assert Alert.objects.filter(resolved_at=None).count() <= 1
            state = RuleState.objects.select_related("alert").first()
            is_open = state is not None and state.memory["open"]
            assert Alert.objects.filter(resolved_at=None).exists() is is_open
            assert (state is not None and state.alert is not None) is is_open
        transaction.set_rollback(True)
