"""Work of the worker for benchmarks. The queue is the table: a task only says 'look there'."""

import logging
import threading

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from benchmarks import execution, selectors, services
from benchmarks.models import State

log = logging.getLogger(__name__)
_shutting_down = threading.Event()


@shared_task
def run_queued() -> None:
    """Measure the runs of the queue one after the other, until it is empty or another process measures one."""
    while not _shutting_down.is_set():
        run = services.start_next_run(host=settings.HOST_NAME, now=timezone.now())
        if run is None:
            return
        execution.execute(run, stopping=_stopping, stopped_as=State.INTERRUPTED)


@shared_task
def look_after_runs() -> None:
    """Every few seconds: end the runs whose process is gone, see to the queue, sum up what was lost."""
    lost = services.interrupt_lost_runs(now=timezone.now())
    if selectors.is_waiting(settings.HOST_NAME):
        wake()
    for run in lost:
        services.sum_up(run)


def wake() -> None:
    """Tell the worker, after the commit, that a run waits. Without Valkey the beat does it later."""
    transaction.on_commit(_send)


def _send() -> None:
    try:
        run_queued.apply_async(retry=False, expires=60)
    except OperationalError as error:
        log.warning("the worker could not be told of a run (%s); it looks by itself soon", error)


def _stopping() -> str:
    return "the worker was stopped" if _shutting_down.is_set() else ""


@worker_ready.connect
def _look_at_once(**_: object) -> None:
    look_after_runs.apply_async(retry=False)


@worker_shutting_down.connect
def _stop_measuring(**_: object) -> None:
    _shutting_down.set()
