"""Who makes the engine load models anew, by which option, and what that costs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from inference.models import InferenceRequest
from inference.services import RELOAD_MS

READ = 5000  # newest reloads of a filter that are looked at
LOOKED_AT = 20_000  # newest requests of a filter whose other loads are counted
LEFT_OPEN = "left open"


@dataclass
class Flip:
    """Reloads of one model between the same two sets of values. `n_untold`: their time is in no field of the answer."""

    model: str
    options: tuple[tuple[str, str, str], ...]  # name, the one value, the other; both ways count as one
    n: int = 0
    n_untold: int = 0
    lost_ms: float = 0.0
    last_at: datetime | None = None
    last_id: str = ""
    clients: dict[str, Counter[str]] = field(
        default_factory=dict
    )  # values of `options` -> who asked for them

    @property
    def sides(self) -> list[tuple[str, list[tuple[str, int]]]]:
        return [(side, found.most_common(5)) for side, found in self.clients.items()]

    @property
    def advice(self) -> str:
        names = [name for name, _, _ in self.options]
        if names == ["num_ctx"]:
            sizes = [int(each) for each in self.options[0][1:] if each.isdecimal()]
            which = f": {max(sizes)} holds both" if len(sizes) == 2 else ""
            return f"Give all clients the same num_ctx{which}, by a profile, and let them name none."
        if names == ["shift"]:
            return "Let all clients send the same `shift`: no profile sets it."
        listed = ", ".join(names)
        if set(names) <= {"num_ctx", "num_batch"}:
            return f"Give all clients the same {listed} by a profile, and let them name none."
        return f"Let all clients send the same {listed}, or none."


@dataclass(frozen=True)
class Reloads:
    """`flips`: the costliest first. The rest of the loads, and all if `bounded` is not said, are of the requests looked at."""

    flips: list[Flip]
    n: int
    lost_ms: float
    bounded: bool
    n_looked_at: int
    looked_at_bounded: bool
    n_loads: int
    loads_ms: float


def reloads(requests: QuerySet[InferenceRequest]) -> Reloads:
    rows = list(
        requests.filter(reloaded=True).only(
            "request_id",
            "at",
            "model",
            "client",
            "load_ms",
            "load_options",
            "previous_options",
            "previous_client",
        )[: READ + 1]
    )
    bounded, rows = len(rows) > READ, rows[:READ]
    newest = requests[: LOOKED_AT + 1]
    loads = Q(load_ms__gte=RELOAD_MS, reloaded=False)
    found = newest.aggregate(n=Count("id"), loads=Count("id", filter=loads), ms=Sum("load_ms", filter=loads))
    return Reloads(
        flips=flips(rows),
        n=len(rows),
        lost_ms=sum(row.load_ms or 0.0 for row in rows),
        bounded=bounded,
        n_looked_at=min(found["n"], LOOKED_AT),
        looked_at_bounded=found["n"] > LOOKED_AT,
        n_loads=found["loads"],
        loads_ms=found["ms"] or 0.0,
    )


def flips(rows: Iterable[InferenceRequest]) -> list[Flip]:
    """Newest first in, costliest first out."""
    found: dict[tuple[Any, ...], Flip] = {}
    for row in rows:
        changed = [(name, shown(before), shown(after)) for name, before, after in row.changed_options]
        options = tuple((name, *_pair(before, after)) for name, before, after in changed)
        flip = found.setdefault(
            (row.model, options), Flip(row.model, options, last_at=row.at, last_id=row.request_id)
        )
        flip.n += 1
        flip.n_untold += row.load_ms is None
        flip.lost_ms += row.load_ms or 0.0
        for place, client in ((1, row.previous_client), (2, row.client)):
            side = ", ".join(f"{each[0]} {each[place]}" for each in changed)
            flip.clients.setdefault(side, Counter())[client or "unknown"] += place == 2
    return sorted(found.values(), key=lambda each: (-each.lost_ms, -each.n))


def shown(value: Any) -> str:
    if value is None:
        return LEFT_OPEN
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pair(one: str, other: str) -> tuple[str, str]:
    """The same for both ways: numbers first, the smaller one before the larger."""

    def rank(text: str) -> tuple[bool, int, str]:
        return (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)

    return (one, other) if rank(one) <= rank(other) else (other, one)
