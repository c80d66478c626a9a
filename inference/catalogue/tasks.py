"""Work of the worker for the catalogue. Celery finds it by inference.tasks."""

import logging
import threading

import redis
from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from inference.catalogue import pulling, pulls, services
from inference.engines.selectors import address
from inference.models import ActionState, JobState, ModelEvent

log = logging.getLogger(__name__)
_shutting_down = threading.Event()


@shared_task(name="inference.tasks.model_pull_queued")
def pull_queued() -> None:
    """Do the pulls of the queue one after the other, until it is empty or another process does one."""
    while not _shutting_down.is_set():
        pull = pulls.start_next_pull(host=settings.HOST_NAME, now=timezone.now())
        if pull is None:
            return
        engine = address(pull.engine_kind)
        if engine is None:
            pulls.end_pull(
                pull, JobState.FAILED, f"There is no engine {pull.engine_kind} any more.", now=timezone.now()
            )
        else:
            pulling.execute(pull, engine, stopping=_stopping)


@shared_task(name="inference.tasks.model_load")
def load_model(event_id: int) -> None:
    event = ModelEvent.objects.filter(pk=event_id, state=ActionState.RUNNING).first()
    engine = address(event.engine_kind) if event is not None else None
    if event is not None and engine is not None:
        services.load(event, engine)


@shared_task(name="inference.tasks.model_follow_gateway")
def follow_gateway() -> None:
    """Every two seconds: what came and went at the engines; pulls and loads whose process is gone."""
    client = redis.from_url(settings.VALKEY_URL)
    lock = client.lock("aicleaner:lock:models", timeout=60, blocking=False)
    if lock.acquire():
        try:
            services.store_gateway_news(client)
        finally:
            lock.release()
    pulls.interrupt_lost_pulls(now=timezone.now())
    services.end_lost_loads(before=timezone.now() - services.LOST_AFTER)
    if pulls.is_waiting(settings.HOST_NAME):
        wake_puller()


def wake_puller() -> None:
    """Without Valkey the beat does it later."""
    try:
        pull_queued.apply_async(retry=False, expires=60)
    except OperationalError as error:
        log.warning("the worker could not be told of a pull (%s); it looks by itself soon", error)


def send_load(event: ModelEvent) -> None:
    """An event that the worker can't be told of has failed, and says so."""
    try:
        load_model.apply_async((event.pk,), retry=False, expires=600)
    except OperationalError as error:
        services.end_event(event, ActionState.FAILED, f"the worker can't be told: {error}")


def _stopping() -> str:
    return "the worker was stopped" if _shutting_down.is_set() else ""


@worker_ready.connect
def _say_what_the_last_worker_left(**_: object) -> None:
    services.end_lost_loads(before=timezone.now())


@worker_shutting_down.connect
def _stop_working(**_: object) -> None:
    _shutting_down.set()
