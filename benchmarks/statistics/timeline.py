"""Tokens on the time axis: what arrived inside a window, and per second."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.load.result import Result, Status
from benchmarks.statistics.samples import Floats, column


class Timeline(BaseModel):
    """One entry per second in each list; `at` is its beginning as seconds since 1970 (UTC)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: list[float]
    tokens_per_s: list[float]
    running: list[float]  # requests under way, on average
    ttft_ms: list[float | None]  # median of the first tokens that came in it
    errors: list[int]


def arrivals(result: Result) -> tuple[Floats, Floats]:
    """(ms, tokens) of every chunk of the requests that ended well: a request's N is spread evenly over its chunks, and where
    the chunks were not kept, over the time from its first to its last."""
    rows = result.requests
    at: list[Floats] = []
    weights: list[Floats] = []
    columns = (rows.status, rows.first_ms, rows.last_ms, rows.n_tokens, rows.gaps_ms)
    for status, first, last, n, gaps in zip(*columns, strict=True):
        if status is not Status.OK or first is None or last is None or not n:
            continue
        steps = np.cumsum(gaps) if gaps else np.linspace(0, last - first, n if last > first else 1)[1:]
        mine = first + np.concatenate([[0.0], steps])
        at.append(mine)
        weights.append(np.full(len(mine), n / len(mine)))
    if not at:
        return np.empty(0), np.empty(0)
    return np.concatenate(at), np.concatenate(weights)


def tokens_in_window(result: Result) -> float:
    if result.window is None:
        return 0.0
    at, tokens = arrivals(result)
    return float(tokens[(at > result.window.start_ms) & (at <= result.window.end_ms)].sum())


def timeline(results: list[Result]) -> Timeline:
    """Of one round after the other."""
    rounds = [_of_round(each) for each in results]
    return Timeline(
        **{key: [value for each in rounds for value in each[key]] for key in Timeline.model_fields}
    )


def _of_round(result: Result) -> dict[str, list[float | int | None]]:
    rows = result.requests
    first, sent, done = column(rows.first_ms), column(rows.sent_ms), column(rows.done_ms)
    ends = done[np.isfinite(done)]
    n_seconds = int(np.ceil(ends.max() / 1000)) if len(ends) else 0
    edges = np.arange(n_seconds + 1, dtype=np.float64) * 1000
    at, tokens = arrivals(result)
    rate, _ = np.histogram(at, edges, weights=tokens) if n_seconds else (np.empty(0), edges)
    failed = np.array([each not in {Status.OK, Status.CUT} for each in rows.status], bool)
    errors, _ = np.histogram(done[failed & np.isfinite(done)], edges) if n_seconds else (np.empty(0), edges)
    began = result.started_at.astimezone(UTC)
    since_1970 = (began - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    running = [
        float(np.nansum(np.clip(np.minimum(done, end) - np.maximum(sent, start), 0, None))) / 1000
        for start, end in _pairs(edges)
    ]
    ttft = first - (column(rows.scheduled_ms) if result.plan.open_loop else sent)
    medians: list[float | None] = []
    for start, end in _pairs(edges):
        mine = ttft[(first >= start) & (first < end)]
        medians.append(float(np.median(mine)) if len(mine) else None)
    return {
        "at": [since_1970 + second for second in range(n_seconds)],
        "tokens_per_s": [float(each) for each in rate],
        "running": list(running),
        "ttft_ms": list(medians),
        "errors": [int(each) for each in errors],
    }


def _pairs(edges: Floats) -> Iterator[tuple[float, float]]:
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
