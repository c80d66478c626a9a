"""A view as a file."""

import csv
import io
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from monitoring.history.groups import unit
from monitoring.history.parameters import View, iso
from monitoring.history.selectors import events, p95_note, resolution, rounded, stretch
from monitoring.store.packing import Floats, is_counter

# Rows of a file: all buckets of the shown tier, merged only beyond this.
ROWS = 5000


def as_csv(view: View, now: float) -> str:
    """A row per bucket; of each line its mean, minimum, maximum and number of samples. Unknown is an empty cell."""
    shown = stretch(view, now, points=ROWS)
    head, columns = ["time", "unix_s"], []
    for (host, name), (buckets, _) in shown.lines.items():
        head += [f"{name} {what} on {host}" for what in ("mean", "min", "max", "samples")]
        digits = _digits(name)
        columns += [_cells(rounded(each, digits)) for each in (buckets.mean, buckets.low, buckets.high)]
        columns.append([int(n) for n in buckets.count.tolist()])
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    if columns:
        times = range(shown.start, view.end, shown.step)
        writer.writerows([iso(at), at, *row] for at, *row in zip(times, *columns, strict=True))
    return out.getvalue()


def as_json(view: View, now: float) -> bytes:
    shown = stretch(view, now, points=ROWS)
    series: list[dict[str, Any]] = [
        {
            "host": host,
            "name": name,
            "unit": unit(name.partition("{")[0]),
            "mean": rounded(buckets.mean, _digits(name)),
            "min": rounded(buckets.low, _digits(name)),
            "max": rounded(buckets.high, _digits(name)),
            "samples": buckets.count.astype(int),
            "summary": asdict(summary),
        }
        for (host, name), (buckets, summary) in shown.lines.items()
    ]
    return orjson.dumps(
        {
            "from": iso(view.start),
            "to": iso(view.end),
            "tier_s": shown.tier,
            "start_unix_s": shown.start,
            "step_s": shown.step,
            "resolution": resolution(shown),
            "p95": p95_note(shown.tier),
            "series": series,
            "events": events(view),
        },
        option=orjson.OPT_SERIALIZE_NUMPY,  # NaN as null
    )


def _cells(values: Floats) -> list[float | None]:
    known = np.isfinite(values).tolist()
    return [value if ok else None for value, ok in zip(values.tolist(), known, strict=True)]


def _digits(name: str) -> int:
    return 15 if is_counter(name) else 5
