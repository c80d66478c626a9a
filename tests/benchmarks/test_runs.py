"""States of runs: who comes second changes nothing, one runs at a time, the dead are found."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from benchmarks import selectors, services
from benchmarks.errors import BusyError, NotAllowedError
from benchmarks.models import ENDED, Run, State
from monitoring.models import Event
from tests.benchmarks.conftest import NOW, small

pytestmark = pytest.mark.django_db
HOST = settings.HOST_NAME
MakeRun = Callable[..., Run]


def start() -> Run | None:
    return services.start_next_run(host=HOST, now=NOW)


def state(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def test_one_run_at_a_time_and_the_rest_in_order(make_run: MakeRun) -> None:
    later, first = make_run(now=NOW + timedelta(seconds=1)), make_run(now=NOW)
    assert start() == first
    assert start() is None
    with pytest.raises(BusyError):
        services.create_running_run(small(), host=HOST, who="terminal", now=NOW)
    assert selectors.n_ahead(later) == 1
    assert services.end_run(first, State.DONE, now=NOW)
    assert selectors.is_waiting(HOST)
    assert start() == later
    assert not selectors.is_waiting(HOST)


def test_another_host_has_a_queue_of_its_own(make_run: MakeRun) -> None:
    make_run()
    services.create_run(small(), host="other", who="x", user=None, now=NOW)
    assert start() is not None
    assert services.start_next_run(host="other", now=NOW) is not None


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked(make_run: MakeRun) -> None:
    queued, running = make_run(now=NOW + timedelta(seconds=1)), make_run()
    start()
    services.cancel_run(queued, who="mia", now=NOW)
    assert state(queued) == State.CANCELLED
    services.cancel_run(running, who="mia", now=NOW)
    assert state(running) == State.RUNNING
    assert running.cancel_asked_at == NOW
    assert services.end_run(running, State.CANCELLED, "cancelled by mia", now=NOW)
    with pytest.raises(NotAllowedError, match="over"):
        services.cancel_run(running, who="mia", now=NOW)


def test_a_run_without_a_sign_of_life_is_interrupted_and_its_process_can_not_come_back(
    make_run: MakeRun,
) -> None:
    run = make_run()
    start()
    assert services.interrupt_lost_runs(now=NOW + services.LEASE) == []
    assert services.keep_lease(run, now=NOW + timedelta(seconds=10), progress={"done": 1, "total": 6})
    assert services.interrupt_lost_runs(now=NOW + services.LEASE + timedelta(seconds=5)) == []
    late = NOW + services.LEASE + timedelta(seconds=11)
    assert services.interrupt_lost_runs(now=late) == [run]
    assert state(run) == State.INTERRUPTED
    assert run.ended_at == late
    assert "gone" in run.reason
    assert not services.keep_lease(run, now=late)
    assert not services.end_run(run, State.DONE, now=late)
    assert state(run) == State.INTERRUPTED


def test_start_and_end_are_events(make_run: MakeRun) -> None:
    run = make_run()
    start()
    services.end_run(run, State.FAILED, "the engine went away", now=NOW)
    texts = list(Event.objects.order_by("id").values_list("kind", "text"))
    assert texts == [
        ("benchmark", f"benchmark {run.pk} started: latency, aicleaner-sample:latest"),
        ("benchmark", f"benchmark {run.pk} failed: the engine went away"),
    ]


def test_a_baseline_takes_the_place_of_the_one_before(make_run: MakeRun) -> None:
    runs = [make_run(), make_run(), make_run(kind="throughput", concurrency=2)]
    for run in runs:
        start()
        services.end_run(run, State.DONE, now=NOW)
        services.set_baseline(Run.objects.get(pk=run.pk), on=True)
    assert [run.is_baseline for run in Run.objects.order_by("id")] == [False, True, True]
    assert selectors.baseline_for(runs[0]) == runs[1]
    services.set_baseline(runs[1], on=False)
    assert selectors.baseline_for(runs[0]) is None


def test_only_what_is_done_is_a_baseline_and_a_running_run_is_not_deleted(make_run: MakeRun) -> None:
    run = make_run()
    with pytest.raises(NotAllowedError, match="done"):
        services.set_baseline(run, on=True)
    start()
    with pytest.raises(NotAllowedError, match="cancel it first"):
        services.delete_run(run)
    services.end_run(run, State.CANCELLED, now=NOW)
    services.delete_run(run)
    assert not Run.objects.exists()


def test_who_may_change_a_run(make_run: MakeRun, user: User, staff: User) -> None:
    own, foreign = make_run(user), make_run()
    assert selectors.may_change(user, own)
    assert not selectors.may_change(user, foreign)
    assert selectors.may_change(staff, foreign)


STEPS = st.lists(
    st.one_of(
        st.just(("create",)),
        st.just(("start",)),
        st.just(("lose",)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("end"), st.integers(0, 5), st.sampled_from(ENDED)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
    ),
    max_size=25,
)


@effort(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_in_whatever_order_the_states_stay_sound(steps: list[tuple[object, ...]]) -> None:
    with transaction.atomic():
        expected: dict[int, str] = {}
        clock = NOW
        for name, *rest in steps:
            clock += timedelta(seconds=1)
            ids = list(expected)
            chosen = Run(pk=ids[int(str(rest[0])) % len(ids)], host=HOST) if rest and ids else None
            running = [pk for pk, each in expected.items() if each == State.RUNNING]
            if name == "create":
                run = services.create_run(small(), host=HOST, who="x", user=None, now=clock)
                expected[run.pk] = State.QUEUED
            elif name == "start":
                started = services.start_next_run(host=HOST, now=clock)
                waiting = [pk for pk, each in expected.items() if each == State.QUEUED]
                assert (started.pk if started else None) == (waiting[0] if waiting and not running else None)
                if started:
                    expected[started.pk] = State.RUNNING
            elif name == "lose":
                clock += services.LEASE + timedelta(seconds=1)
                assert [each.pk for each in services.interrupt_lost_runs(now=clock)] == running
                expected |= dict.fromkeys(running, State.INTERRUPTED)
            elif chosen and name == "cancel":
                if expected[chosen.pk] in ENDED:
                    with pytest.raises(NotAllowedError):
                        services.cancel_run(chosen, who="x", now=clock)
                else:
                    services.cancel_run(chosen, who="x", now=clock)
                    if expected[chosen.pk] == State.QUEUED:
                        expected[chosen.pk] = State.CANCELLED
            elif chosen and name == "end":
                to = State(str(rest[1]))
                assert services.end_run(chosen, to, now=clock) == (expected[chosen.pk] == State.RUNNING)
                if expected[chosen.pk] == State.RUNNING:
                    expected[chosen.pk] = to
            elif chosen and name == "delete" and expected[chosen.pk] != State.RUNNING:
                services.delete_run(chosen)
                del expected[chosen.pk]
            assert dict(Run.objects.values_list("pk", "state")) == expected
            assert list(expected.values()).count(State.RUNNING) <= 1
        transaction.set_rollback(True)
