"""Which models the list shows, and in which order. Pure."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from inference.catalogue.selectors import Entry

LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
# What is unknown goes last.
ORDERS: dict[str, Callable[[Entry], Any]] = {
    "": lambda each: (-(each.loaded.size_bytes + 1) if each.loaded else 0, each.loading_since is None),
    "name": lambda each: 0,
    "size": lambda each: -(each.size_bytes or 0),
    "used": lambda each: LONG_AGO - (each.use.last_at or LONG_AGO),
    "requests": lambda each: -each.use.n_requests,
    "modified": lambda each: LONG_AGO - (each.modified_at or LONG_AGO),
}


def shown(
    found: Iterable[Entry], *, q: str = "", engine: str = "", state: str = "", sort: str = ""
) -> list[Entry]:
    kept = [
        each
        for each in found
        if q.casefold() in f"{each.name} {each.family} {each.quantization}".casefold()
        and engine in ("", each.engine.name)
        and _is_in(each, state)
    ]
    order = ORDERS[sort]
    return sorted(kept, key=lambda each: (order(each), each.name, each.engine.name))


def _is_in(entry: Entry, state: str) -> bool:
    if state == "loaded":
        return entry.loaded is not None
    if state == "idle":
        return entry.loaded is None
    return state != "unused" or entry.use.n_requests == 0
