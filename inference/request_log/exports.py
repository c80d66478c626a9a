"""The requests of a filter as a file, slice by slice, so that neither a long file nor a slow reader holds memory or a
transaction. Kept prompts are in another table and never in here."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from inference.models import InferenceRequest
from inference.request_log.listing import Cursor, older_than

MOST_ROWS, SLICE = 100_000, 2000
COLUMNS = (
    "request_id", "at", "path", "api", "kind", "model", "client", "api_key", "client_ip", "stream", "status", "failed", "error",
    "done_reason", "ttft_ms", "total_ms", "load_ms", "prompt_eval_ms", "eval_ms", "queue_ms", "prompt_tokens", "output_tokens",
    "engine", "engine_kind", "route", "cost_usd", "request_bytes", "response_bytes", "cache", "cache_distance", "profile",
    "prompt_bytes",
    "num_ctx", "load_options", "previous_options", "previous_client", "reloaded", "truncated", "truncated_why",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def as_csv(requests: QuerySet[InferenceRequest], most: int = MOST_ROWS) -> AsyncIterator[str]:
    yield _line(COLUMNS)
    async for rows in _slices(requests, most):
        yield "".join(_line([_cell(row[name]) for name in COLUMNS]) for row in rows)


async def as_json(
    requests: QuerySet[InferenceRequest], query: str, most: int = MOST_ROWS
) -> AsyncIterator[str]:
    """One object; `bounded`, at its end, says whether there were more requests."""
    yield f'{{"filter": {json.dumps(query)}, "most_rows": {most}, "requests": ['
    n = 0
    async for rows in _slices(requests, most + 1):
        for row in rows:
            row["at"] = row["at"].isoformat()
            row["cost_usd"] = None if row["cost_usd"] is None else float(row["cost_usd"])
        taken = rows[: most - n]
        text = ",\n".join(json.dumps(row, allow_nan=False) for row in taken)
        yield (",\n" if n and taken else "\n" if taken else "") + text
        n += len(rows)
    yield f'], "bounded": {json.dumps(n > most)}}}\n'


async def _slices(requests: QuerySet[InferenceRequest], most: int) -> AsyncIterator[list[dict[str, Any]]]:
    left, cursor = most, None
    while left > 0:
        shown = requests if cursor is None else older_than(requests, cursor)
        rows = await sync_to_async(_read)(shown, min(SLICE, left))
        if not rows:
            return
        cursor = Cursor(rows[-1]["at"], rows[-1]["id"])
        left -= len(rows)
        for row in rows:
            del row["id"]
        yield rows


def _read(requests: QuerySet[InferenceRequest], n: int) -> list[dict[str, Any]]:
    return list(requests.values("id", *COLUMNS)[:n])


def _line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Unknown is an empty cell. Names come from clients: one that a spreadsheet would calculate is kept from it."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
