"""Work of the worker for the inference app."""

import logging
import threading

import redis
from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from inference import services
from inference.aliases import selectors as aliases
from inference.api_keys import selectors as api_keys
from inference.caching import selectors as caching
from inference.catalogue import services as catalogue_services
from inference.catalogue import tasks as catalogue_tasks  # noqa: F401 - Celery finds them here
from inference.engines import selectors as engines
from inference.gateway.pushed import ALIASES, API_KEYS, ENGINES, ZONES
from inference.jobs import execution, selectors
from inference.jobs import services as job_services
from inference.models import JobState
from inference.pushing import log_failure, push_if_stale

log = logging.getLogger(__name__)
_shutting_down = threading.Event()


@shared_task
def store_request_records() -> None:
    """Every two seconds. A failure leaves the records in the stream for the next time."""
    client = redis.from_url(settings.VALKEY_URL)
    # Two runs at a time would read the same unacknowledged entries.
    lock = client.lock("aicleaner:lock:store-requests", timeout=60, blocking=False)
    if lock.acquire():
        try:
            services.store_request_records(client)
        finally:
            lock.release()


@shared_task
def delete_old_request_records() -> None:
    services.delete_request_records(now=timezone.now(), keep_days=settings.REQUEST_RETENTION_DAYS)
    catalogue_services.delete_old_events(now=timezone.now())


@shared_task
def delete_old_prompts() -> None:
    """Every ten minutes; all of them, once the setting is off."""
    keep_hours = settings.PROMPT_RETENTION_HOURS if settings.KEEP_PROMPT_BYTES else 0
    services.delete_kept_prompts(now=timezone.now(), keep_hours=keep_hours)


@shared_task
def keep_gateway_in_step() -> None:
    """Every five seconds: a Valkey that was away or lost its state gets engines, aliases, the cache's zones and the API keys
    again; what clouds cost and what keys used meanwhile goes along."""
    try:
        push_if_stale(ENGINES, engines.gateway_state)
        push_if_stale(ALIASES, aliases.gateway_state)
        push_if_stale(ZONES, caching.gateway_state)
        push_if_stale(API_KEYS, api_keys.gateway_state, log_failure)
    except redis.RedisError as error:
        log.warning("engines, aliases, zones and API keys wait for Valkey: %s", error)


@shared_task
def model_run_queued() -> None:
    """Do the jobs of the queue one after the other, until it is empty or another process does one."""
    while not _shutting_down.is_set():
        job = job_services.start_next_job(host=settings.HOST_NAME, now=timezone.now())
        if job is None:
            return
        execution.execute(job, stopping=_stopping, stopped_as=JobState.INTERRUPTED)


@shared_task
def model_look_after_jobs() -> None:
    """Every few seconds: end the jobs whose process is gone, clean up after them, see to the queue."""
    if job_services.interrupt_lost_jobs(now=timezone.now()):
        execution.remove_what_lost_jobs_left()
    if selectors.is_waiting(settings.HOST_NAME):
        wake_model_worker()


def wake_model_worker() -> None:
    """Tell the worker, after the commit, that a job waits. Without Valkey the beat does it later."""
    transaction.on_commit(_send)


def _send() -> None:
    try:
        model_run_queued.apply_async(retry=False, expires=60)
    except OperationalError as error:
        log.warning("the worker could not be told of a job (%s); it looks by itself soon", error)


def _stopping() -> str:
    return "the worker was stopped" if _shutting_down.is_set() else ""


@worker_ready.connect
def _look_at_once(**_: object) -> None:
    execution.remove_what_lost_jobs_left()
    model_look_after_jobs.apply_async(retry=False)


@worker_shutting_down.connect
def _stop_working(**_: object) -> None:
    _shutting_down.set()
