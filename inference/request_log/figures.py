"""How the requests of a filter went: errors, percentiles and tokens by model, profile, client and API key, the slowest, errors by
text."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import QuerySet

from inference.models import InferenceRequest
from inference.request_log.statistics import Percentiles, Share, percentiles

READ = 20_000  # newest requests of a filter that are looked at
GROUPS, SLOWEST, ERRORS = 20, 10, 20  # shown
GROUPED_BY = {"model": "model", "profile": "profile", "client": "client", "API key": "api_key"}


class Row(NamedTuple):
    request_id: str
    at: datetime
    model: str
    profile: str | None
    client: str
    api_key: str
    status: int
    failed: bool
    error: str
    cache: str
    ttft_ms: float | None
    total_ms: float
    queue_ms: float | None
    eval_ms: float | None
    prompt_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True)
class Group:
    """`name` '': none was given. Tokens are those that engines told, without kept answers."""

    name: str
    errors: Share
    prompt_tokens: int
    output_tokens: int
    metrics: tuple[tuple[str, str, Percentiles], ...]  # label, unit, percentiles


@dataclass(frozen=True)
class ErrorText:
    text: str
    n: int
    last: Row


@dataclass(frozen=True)
class Figures:
    """`bounded`: the filter has more requests than were looked at; all figures are of the newest `whole.errors.n`."""

    bounded: bool
    whole: Group
    n_hits: int
    oldest: datetime | None
    by: tuple[
        tuple[str, str, list[Group], int], ...
    ]  # what by, its filter, the largest groups, how many more there are
    slowest: list[Row]
    error_texts: list[ErrorText]
    n_error_texts: int


def figures(requests: QuerySet[InferenceRequest], read: int = READ) -> Figures:
    rows = [Row(*each) for each in requests.values_list(*Row._fields)[: read + 1]]
    bounded, rows = len(rows) > read, rows[:read]
    texts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.failed:
            texts[row.error or f"HTTP {row.status} without a text"].append(row)
    errors = [ErrorText(text, len(found), found[0]) for text, found in texts.items()]
    errors.sort(key=lambda each: -each.n)
    return Figures(
        bounded=bounded,
        whole=_group("", rows),
        n_hits=sum(row.cache == "hit" for row in rows),
        oldest=rows[-1].at if rows else None,
        by=tuple(
            _by(what, field, rows)
            for what, field in GROUPED_BY.items()
            if field != "api_key" or any(row.api_key for row in rows)
        ),
        slowest=sorted(rows, key=lambda row: -row.total_ms)[:SLOWEST],
        error_texts=errors[:ERRORS],
        n_error_texts=len(errors),
    )


def _by(what: str, field: str, rows: list[Row]) -> tuple[str, str, list[Group], int]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, field) or ""].append(row)
    largest = sorted(groups.items(), key=lambda each: -len(each[1]))
    return (
        what,
        field,
        [_group(name, found) for name, found in largest[:GROUPS]],
        max(len(largest) - GROUPS, 0),
    )


def _group(name: str, rows: list[Row]) -> Group:
    """Kept answers are left out of the times: nothing was waited for or generated."""
    asked = [row for row in rows if row.cache != "hit"]
    whole = [row.total_ms for row in asked if not row.failed]
    speeds = [
        row.output_tokens / row.eval_ms * 1000
        for row in asked
        if row.output_tokens and row.eval_ms and not row.failed
    ]
    return Group(
        name,
        Share(sum(row.failed for row in rows), len(rows)),
        sum(row.prompt_tokens or 0 for row in asked),
        sum(row.output_tokens or 0 for row in asked),
        (
            ("First token", "ms", percentiles(_known(row.ttft_ms for row in asked))),
            ("Total", "ms", percentiles(whole)),
            ("Queue", "ms", percentiles(_known(row.queue_ms for row in asked))),
            ("Tokens/s", "", percentiles(speeds, high_is_good=True)),
        ),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [each for each in values if each is not None]
