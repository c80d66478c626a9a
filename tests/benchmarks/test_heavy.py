"""Benchmarks and model jobs: one at a time on a host, in the order in which they were asked for."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.test import Client

from benchmarks import errors, services
from benchmarks.models import Run, State
from inference.errors import BusyError
from inference.jobs import services as jobs
from inference.jobs.parameters import JobParameters
from inference.models import JobState, ModelJob
from tests.benchmarks.conftest import NOW, small

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]
MakeRun = Callable[..., Run]
HOST = settings.HOST_NAME


def make_job(now: datetime = NOW, *, running: bool = False, host: str = HOST) -> ModelJob:
    parameters = JobParameters(engine_kind="embedded")
    return jobs.create_job(
        "measure",
        "a:latest",
        "b:latest",
        parameters,
        host=host,
        who="mia",
        user=None,
        now=now,
        running=running,
    )


def next_job() -> ModelJob | None:
    return jobs.start_next_job(host=HOST, now=NOW)


def next_run() -> Run | None:
    return services.start_next_run(host=HOST, now=NOW)


def test_a_job_waits_for_the_benchmark_that_runs(make_run: MakeRun, admin_client: Client) -> None:
    run = make_run()
    assert next_run() == run
    job = make_job(NOW - timedelta(seconds=1))
    assert next_job() is None
    page = admin_client.get(f"/models/jobs/{job.pk}/").content.decode()
    assert f"Waits: Benchmark {run.pk} (latency) is running." in page
    with pytest.raises(BusyError, match=f"Benchmark {run.pk} "):
        make_job(running=True)
    assert make_job(running=True, host="another").state == JobState.RUNNING
    services.end_run(run, State.DONE, now=NOW)
    assert next_job() == job


def test_a_benchmark_waits_for_the_job_that_runs(make_run: MakeRun, admin_client: Client) -> None:
    job = make_job()
    assert next_job() == job
    run = make_run(now=NOW - timedelta(seconds=1))
    assert next_run() is None
    page = admin_client.get(f"/benchmarks/{run.pk}/").content.decode()
    assert f"Waits: Model job {job.pk} (measure a:latest) is running." in page
    with pytest.raises(errors.BusyError, match=f"Model job {job.pk} "):
        services.create_running_run(small(), host=HOST, who="terminal", now=NOW)
    jobs.end_job(job, JobState.DONE, now=NOW)
    assert next_run() == run


def test_who_was_asked_for_first_comes_first(make_run: MakeRun, admin_client: Client) -> None:
    run = make_run(now=NOW + timedelta(seconds=1))
    first, last = make_job(NOW), make_job(NOW + timedelta(seconds=2))
    assert next_run() is None
    assert (
        "Waits: A model job was asked for sooner."
        in admin_client.get(f"/benchmarks/{run.pk}/").content.decode()
    )
    assert next_job() == first
    jobs.end_job(first, JobState.DONE, now=NOW)
    assert next_job() is None
    assert (
        "Waits: A benchmark was asked for sooner."
        in admin_client.get(f"/models/jobs/{last.pk}/").content.decode()
    )
    assert next_run() == run
    services.end_run(run, State.DONE, now=NOW)
    assert next_job() == last
