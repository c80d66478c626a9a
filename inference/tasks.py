"""Work of the worker for the inference app."""

import redis
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from inference import services


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


@shared_task
def delete_old_prompts() -> None:
    """Every ten minutes; all of them, once the setting is off."""
    keep_hours = settings.PROMPT_RETENTION_HOURS if settings.KEEP_PROMPT_BYTES else 0
    services.delete_kept_prompts(now=timezone.now(), keep_hours=keep_hours)
