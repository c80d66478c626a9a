"""Signs of life of worker and beat."""

import redis
from celery import shared_task
from celery.signals import beat_init, worker_ready
from django.conf import settings

HEARTBEAT_S = 45  # three beats missed, then some


def _alive(part: str) -> None:
    redis.from_url(settings.VALKEY_URL).set(f"aicleaner:alive:{part}", 1, ex=HEARTBEAT_S)


@shared_task
def heartbeat() -> None:
    """Sent by beat and run by the worker: one mark proves both."""
    _alive("worker")
    _alive("beat")


@worker_ready.connect
def _worker_is_ready(**_: object) -> None:
    _alive("worker")


@beat_init.connect
def _beat_is_ready(**_: object) -> None:
    _alive("beat")
