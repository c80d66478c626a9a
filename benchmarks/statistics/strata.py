"""Latencies by length of the answer, where the model chose it."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from benchmarks.load.result import Result, Status
from benchmarks.statistics.samples import median


class Stratum(BaseModel):
    """Requests whose answer had from `tokens_from` to `tokens_to` tokens: medians."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens_from: int
    tokens_to: int
    n: int
    ttft_ms: float | None
    total_ms: float | None
    tpot_ms: float | None


def strata_of(results: Sequence[Result]) -> list[Stratum]:
    """By thirds of the length; empty where all answers have one length or fewer than nine are there."""
    rows = [
        (n, first - since, done - since, (last - first) / (n - 1) if n > 1 else None)
        for each in results
        for n, since, first, last, done, status, measured in zip(
            each.requests.n_tokens,
            each.requests.scheduled_ms if each.plan.open_loop else each.requests.sent_ms,
            each.requests.first_ms,
            each.requests.last_ms,
            each.requests.done_ms,
            each.requests.status,
            each.requests.measured,
            strict=True,
        )
        if measured and status is Status.OK
        if n and since is not None and first is not None and last is not None and done is not None
    ]
    rows.sort(key=lambda row: row[0])
    if len(rows) < 9 or rows[0][0] == rows[-1][0]:
        return []
    edges = sorted({rows[len(rows) * third // 3][0] for third in range(3)})
    strata = []
    for start, after in zip(edges, [*edges[1:], rows[-1][0] + 1], strict=True):
        mine = [row for row in rows if start <= row[0] < after]
        strata.append(
            Stratum(
                tokens_from=mine[0][0],
                tokens_to=mine[-1][0],
                n=len(mine),
                ttft_ms=median([row[1] for row in mine]),
                total_ms=median([row[2] for row in mine]),
                tpot_ms=median([row[3] for row in mine if row[3] is not None]),
            )
        )
    return strata
