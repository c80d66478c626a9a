from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from aicleaner_site.beat_schedule import Schedule
from aicleaner_site.celery import app


def waits(schedule: Schedule) -> dict[str, float]:
    """Seconds until each runs, of those that run every so often."""
    every = {name: each for name, each in schedule.schedule.items() if hasattr(each.schedule, "run_every")}
    return {name: each.is_due().next for name, each in every.items()}


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_was_set_back_holds_nothing_up(valkey_url: str) -> None:
    usual = waits(Schedule(app=app))
    assert {"heartbeat", "store request records"} <= set(usual)
    PeriodicTask.objects.update(last_run_at=timezone.now() + timedelta(hours=2))
    schedule = Schedule(app=app)
    assert min(waits(schedule).values()) > 7000
    schedule.tick()
    assert waits(schedule)["heartbeat"] <= 10
    assert max(waits(schedule).values()) <= 3600
    schedule.sync()
    assert not PeriodicTask.objects.filter(last_run_at__gt=timezone.now()).exists()


@pytest.mark.django_db(transaction=True)
def test_what_ran_in_the_past_stays_as_it_was(valkey_url: str) -> None:
    schedule = Schedule(app=app)
    before = {name: each.model.last_run_at for name, each in schedule.schedule.items()}
    schedule.forget_the_future(timezone.now())
    assert {name: each.model.last_run_at for name, each in schedule.schedule.items()} == before
