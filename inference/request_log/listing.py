"""The list, page by page. A page begins after a row, not after so many rows: the millionth costs what the first does."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import QuerySet

from inference.models import InferenceRequest

PER_PAGE = 50
MOST_NEW = 100  # counted; more are said to be more
LONGEST = timedelta(hours=1)  # a request may be stored so long after it came and is still counted
KNOWN = 1000  # newest requests whose models, clients, profiles and API keys are offered
FIELDS = (
    "request_id", "at", "path", "kind", "model", "client", "stream", "status", "error", "failed", "ttft_ms", "total_ms",
    "eval_ms", "output_tokens", "prompt_tokens", "cache", "profile", "api_key", "reloaded", "truncated", "done_reason",
    "engine_kind", "route", "cost_usd",
)  # fmt: skip


class CursorError(ValueError):
    """A cursor that is none of ours."""


@dataclass(frozen=True)
class Cursor:
    """A row's place in the list: microseconds since 1970 and its id, in the URL as `1764000000000000-17`."""

    at: datetime
    row: int

    @classmethod
    def of(cls, request: InferenceRequest) -> "Cursor":
        return cls(request.at, request.pk)

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises CursorError."""
        first, _, second = text.partition("-")
        if not (first.isdecimal() and second.isdecimal() and len(first) <= 17 and len(second) <= 18):
            raise CursorError(text)
        seconds, micro = divmod(int(first), 1_000_000)
        try:
            return cls(datetime.fromtimestamp(seconds, UTC).replace(microsecond=micro), int(second))
        except (OverflowError, ValueError, OSError) as error:
            raise CursorError(text) from error

    def __str__(self) -> str:
        seconds = int(self.at.replace(microsecond=0).timestamp())
        return f"{seconds * 1_000_000 + self.at.microsecond}-{self.row}"


@dataclass(frozen=True)
class Page:
    rows: list[InferenceRequest]
    older: str  # cursor for the page of older ones; '': there are none
    newer: str  # likewise


def older_than(requests: QuerySet[InferenceRequest], cursor: Cursor) -> QuerySet[InferenceRequest]:
    """Written so that an index on (at, id) is entered at the row: the range first, then its edge."""
    return requests.filter(at__lte=cursor.at).exclude(at=cursor.at, id__gte=cursor.row)


def newer_than(requests: QuerySet[InferenceRequest], cursor: Cursor) -> QuerySet[InferenceRequest]:
    return requests.filter(at__gte=cursor.at).exclude(at=cursor.at, id__lte=cursor.row)


def page(
    requests: QuerySet[InferenceRequest], *, before: Cursor | None = None, after: Cursor | None = None
) -> Page:
    """The newest page, that of rows older than `before`, or that of the ones just newer than `after`."""
    requests = requests.only(*FIELDS)
    if after is not None:
        found = list(newer_than(requests, after).order_by("at", "id")[: PER_PAGE + 1])
        more_newer, rows = len(found) > PER_PAGE, found[:PER_PAGE][::-1]
        more_older = True
    else:
        shown = requests if before is None else older_than(requests, before)
        found = list(shown[: PER_PAGE + 1])
        more_older, rows = len(found) > PER_PAGE, found[:PER_PAGE]
        more_newer = before is not None
    if not rows:
        return Page([], "", "")
    first, last = str(Cursor.of(rows[0])), str(Cursor.of(rows[-1]))
    return Page(rows, last if more_older else "", first if more_newer else "")


def last_stored() -> int:
    """Id of the request that was stored last; 0 without any. Long ones are stored after others that came later."""
    return InferenceRequest.objects.order_by("-id").values_list("id", flat=True).first() or 0


def count_stored_since(requests: QuerySet[InferenceRequest], page_made: Cursor) -> int:
    """At most MOST_NEW + 1. `page_made`: when, and what was stored last by then. In the order of the list, so that no database
    reads more than the indexed rows of that time."""
    found = requests.filter(at__gte=page_made.at - LONGEST, id__gt=page_made.row)
    return len(found.values_list("id", flat=True)[: MOST_NEW + 1])


def known_names() -> dict[str, list[str]]:
    """What the newest requests name: for the filters to offer."""
    rows = list(InferenceRequest.objects.values_list("model", "client", "profile", "api_key")[:KNOWN])
    return {
        name: sorted({str(row[place]) for row in rows if row[place]})
        for place, name in enumerate(("models", "clients", "profiles", "api_keys"))
    }
