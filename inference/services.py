"""Writes of the inference app."""

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from inference.models import InferenceRequest

STREAM, GROUP, CONSUMER = "aicleaner:gateway:records", "store", "worker"
BATCH = 500
FIELDS = {field.name for field in InferenceRequest._meta.get_fields()} - {"id"}
log = logging.getLogger(__name__)


def store_request_records(client: "Redis") -> int:
    """Move finished requests from the gateway's stream into the database; returns how many were read.

    Acknowledged and removed only after the commit. What a killed worker had read and not acknowledged is read
    again, and the unique request_id keeps it from counting twice."""
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    n_read = 0
    for start in ("0", ">"):  # first what an earlier worker left unacknowledged
        while batch := _read(client, start):
            rows = [row for _, fields in batch if (row := _row(fields)) is not None]
            InferenceRequest.objects.bulk_create(rows, ignore_conflicts=True)
            ids = [entry_id for entry_id, _ in batch]
            client.xack(STREAM, GROUP, *ids)
            client.xdel(STREAM, *ids)
            n_read += len(batch)
    return n_read


def _read(client: "Redis", start: str) -> list[tuple[Any, Any]]:
    answer: Any = client.xreadgroup(GROUP, CONSUMER, {STREAM: start}, count=BATCH)
    return list(answer[0][1]) if answer else []


def _row(fields: dict[bytes, bytes] | None) -> InferenceRequest | None:
    """A row, or None for an entry that is no record of ours (logged, not tried for ever)."""
    try:
        values = json.loads((fields or {})[b"r"])
        values["at"] = datetime.fromtimestamp(values["at"], UTC)
        return InferenceRequest(**{name: value for name, value in values.items() if name in FIELDS})
    except (KeyError, ValueError, TypeError):
        log.exception("an entry of %s is no request record", STREAM)
        return None


def delete_request_records(*, now: datetime, keep_days: int) -> int:
    """Delete what is older than `keep_days`, in slices, so that no write lock is held for long."""
    before = now - timedelta(days=keep_days)
    n_deleted = 0
    while ids := list(_ids(before)):
        n, _ = InferenceRequest.objects.filter(id__in=ids).delete()
        n_deleted += n
    return n_deleted


def _ids(before: datetime) -> Iterable[int]:
    return InferenceRequest.objects.filter(at__lt=before).order_by("at").values_list("id", flat=True)[:BATCH]
