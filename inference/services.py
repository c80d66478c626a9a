"""Writes of the inference app."""

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import DataError, IntegrityError, transaction
from redis import Redis
from redis.exceptions import ResponseError

from inference import selectors
from inference.api_keys import services as api_keys
from inference.catalogue.counting import count_use
from inference.engines import costs
from inference.models import InferenceRequest, KeptPrompt, ModelUse
from inference.truncation import Seen, judge

STREAM, GROUP, CONSUMER = "aicleaner:gateway:records", "store", "worker"
REFUSED_KEY = "aicleaner:gateway:refused"
BATCH = 500
RELOAD_MS = 50.0  # a loaded model says some 1 ms; a reload took 110 ms and more for models of a megabyte
FIELDS = {field.name: field for field in InferenceRequest._meta.concrete_fields if field.name != "id"}
log = logging.getLogger(__name__)


def store_request_records(client: "Redis") -> int:
    """Move finished requests from the gateway's stream into the database; returns how many were read.

    Acknowledged and removed only after the commit. What a killed worker had read and not acknowledged is read
    again, and the unique request_id keeps it from counting twice. What can't become a row is counted under REFUSED_KEY and
    removed, lest it hold up all others. Raises DatabaseError while the database is away or full: all stays in the stream."""
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    n_read = 0
    for start in ("0", ">"):  # first what an earlier worker left unacknowledged
        while batch := _read(client, start):
            n_refused = store_entries([fields for _, fields in batch])
            ids = [entry_id for entry_id, _ in batch]
            client.xack(STREAM, GROUP, *ids)
            client.xdel(STREAM, *ids)
            if n_refused:
                client.incrby(REFUSED_KEY, n_refused)
            n_read += len(batch)
    return n_read


def store_entries(entries: Sequence[dict[bytes, bytes] | None]) -> int:
    """Make rows of entries of the stream, as the gateway writes them; returns how many can't become one."""
    found = [each for fields in entries if (each := _record(fields)) is not None]
    costs.price(found)
    rows = [row for each in found if (row := _row(each)) is not None]
    n_refused = len(entries) - len(rows)
    _judge(rows, found)
    n_refused += _store(rows, _uses(found))
    _keep_prompts(found)
    return n_refused


def _judge(rows: list[InferenceRequest], records: list[dict[str, Any]]) -> None:
    """Say of each whether its prompt was cut, by what other requests of its model taught."""
    kept = {str(each.get("request_id")): each.get("kept_tokens") for each in records}
    seen = {
        row.request_id: Seen(
            row.kind,
            *map(_count, (row.prompt_bytes, row.prompt_tokens, row.num_ctx, kept.get(row.request_id))),
        )
        for row in rows
        if row.cache != "hit" and not row.failed
    }
    judged = [row for row in rows if row.request_id in seen and seen[row.request_id].is_told]
    densities = {model: selectors.token_density(model) for model in {row.model for row in judged}}
    for row in judged:
        verdict, why = judge(seen[row.request_id], densities[row.model])
        row.truncated, row.truncated_why = str(verdict), why


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _keep_prompts(records: list[dict[str, Any]]) -> None:
    """Those that the gateway took along, by setting. One that can't be kept is left out: the request counts, not its text."""
    texts = {str(each.get("request_id")): each for each in records if isinstance(each.get("prompt"), str)}
    if not texts:
        return
    rows = InferenceRequest.objects.filter(request_id__in=list(texts)).only("request_id", "at")
    prompts = [
        KeptPrompt(
            request=row,
            at=row.at,
            text=texts[row.request_id]["prompt"].replace("\0", ""),
            shortened=bool(texts[row.request_id].get("prompt_shortened")),
        )
        for row in rows
    ]
    try:
        with transaction.atomic():
            KeptPrompt.objects.bulk_create(prompts, ignore_conflicts=True)
    except (DataError, IntegrityError, ValueError):
        # Without the error's own text: a database quotes there what it refuses.
        log.warning("%s prompts are refused by the database and not kept", len(prompts))


def _uses(records: list[dict[str, Any]]) -> dict[str, api_keys.Use]:
    """What requests with an API key used, by request."""
    return {
        str(each["request_id"]): api_keys.Use(
            int(each["api_key_id"]),
            each["at"],
            bool(each["failed"]),
            _count(each["api_key_tokens"]) or 0,
            _cost(each.get("cost_usd")),
        )
        for each in records
        if "failed" in each and each.get("api_key_id") is not None
    }


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | Decimal) and value >= 0 else None


def _store(rows: list[InferenceRequest], uses: dict[str, api_keys.Use]) -> int:
    """Store them; one by one where the database refuses a value among them. Returns how many it refused."""
    try:
        with transaction.atomic():
            new = _not_stored_yet(rows)
            api_keys.count_uses(uses[row.request_id] for row in new if row.request_id in uses)
            InferenceRequest.objects.bulk_create(rows, ignore_conflicts=True)
            costs.count([row for row in new if row.route])
            count_use(new)
    except (DataError, IntegrityError, OverflowError, ValueError, TypeError):
        if len(rows) > 1:
            return sum(_store([row], uses) for row in rows)
        log.exception("a request record is refused by the database")
        return 1
    return 0


def _not_stored_yet(rows: list[InferenceRequest]) -> list[InferenceRequest]:
    """What was read twice counts and costs once."""
    ids = [row.request_id for row in rows]
    known = set(InferenceRequest.objects.filter(request_id__in=ids).values_list("request_id", flat=True))
    return [row for row in rows if row.request_id not in known]


def _read(client: "Redis", start: str) -> list[tuple[Any, Any]]:
    answer: Any = client.xreadgroup(GROUP, CONSUMER, {STREAM: start}, count=BATCH)
    return list(answer[0][1]) if answer else []


def _record(fields: dict[bytes, bytes] | None) -> dict[str, Any] | None:
    try:
        values = json.loads((fields or {})[b"r"])
        values["at"] = datetime.fromtimestamp(values["at"], UTC)
    except (KeyError, ValueError, TypeError, OverflowError, OSError):
        log.exception("an entry of %s is no request record", STREAM)
        return None
    return dict(values)


def _row(values: dict[str, Any]) -> InferenceRequest | None:
    """A row, or None for an entry that is no record of ours (logged, not tried for ever)."""
    try:
        load_ms, changed = values.get("load_ms"), values.get("previous_options") is not None
        values |= {
            "failed": bool(values["error"]) or values["status"] >= 400,
            # /v1 does not tell how long it took.
            "reloaded": changed and (load_ms is None or load_ms >= RELOAD_MS),
            "previous_client": values.get("previous_client") or "",
            "api_key": values.get("api_key") or "",
            "route": values.get("route") or "",
            "truncated": "",
            "truncated_why": "",
        }
        return InferenceRequest(**{name: _fitted(name, values.get(name)) for name in FIELDS})
    except (KeyError, ValueError, TypeError):
        log.exception("an entry of %s is no request record", STREAM)
        return None


def _fitted(name: str, value: Any) -> Any:
    """Texts come from clients and engines: cut to the column, without the NUL that PostgreSQL takes in no text.

    Raises ValueError for what may not be missing: SQLite would leave the row out without a word."""
    if value is None and not FIELDS[name].null:
        raise ValueError(f"{name} is missing")
    limit = FIELDS[name].max_length
    return value.replace("\0", "")[:limit] if limit and isinstance(value, str) else value


def delete_request_records(*, now: datetime, keep_days: int) -> int:
    """Delete what is older than `keep_days`, in slices, so that no write lock is held for long. Returns how many requests."""
    before = now - timedelta(days=keep_days)
    n_deleted = 0
    while ids := list(_ids(before)):
        n, _ = InferenceRequest.objects.filter(id__in=ids).delete()
        n_deleted += n
    ModelUse.objects.filter(hour__lt=before - timedelta(hours=1)).delete()
    return n_deleted


def delete_kept_prompts(*, now: datetime, keep_hours: float) -> int:
    """Delete the prompts that were kept for long enough; `keep_hours` 0: all of them."""
    n, _ = KeptPrompt.objects.filter(at__lte=now - timedelta(hours=keep_hours)).delete()
    return n


def _ids(before: datetime) -> Iterable[int]:
    return InferenceRequest.objects.filter(at__lt=before).order_by("at").values_list("id", flat=True)[:BATCH]
