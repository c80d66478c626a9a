"""What a table says of a stretch of buckets. No Django in here."""

from dataclasses import dataclass

import numpy as np

from monitoring.store.packing import Floats
from monitoring.store.rollups import Buckets


@dataclass(frozen=True)
class Summary:
    """None where nothing is known. `present`: the share of the seconds that were sampled, 0 to 1."""

    low: float | None
    mean: float | None
    p95: float | None
    high: float | None
    last: float | None
    last_at: int | None
    present: float


def summarize(buckets: Buckets, start: int, step: int, seconds: float) -> Summary:
    """Of the buckets that begin at `start`; `seconds`: how many samples could be there, one a second.

    Mean, least and greatest are those of the samples. p95 is the value that 95 % of the sampled seconds do not exceed, each
    second taken for the mean of its bucket: of samples where `step` is 1, else of means, which hide peaks shorter than it."""
    known = buckets.count > 0
    if not known.any():
        return Summary(None, None, None, None, None, None, 0.0)
    count, means = buckets.count[known], buckets.mean[known]
    last = int(np.flatnonzero(known)[-1])
    return Summary(
        low=float(buckets.low[known].min()),
        mean=float(np.average(means, weights=count)),
        p95=quantile(means, count, 0.95),
        high=float(buckets.high[known].max()),
        last=float(buckets.mean[last]),
        last_at=start + last * step,
        present=min(float(count.sum()) / max(seconds, 1.0), 1.0),
    )


def quantile(values: Floats, weights: Floats, q: float) -> float:
    """The least value up to which a share `q` of the weight lies (inverse of the weighted distribution function)."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    # Rounding must not push the wanted share just past a whole step.
    position = int(np.searchsorted(reached, q * reached[-1] * (1 - 1e-12)))
    return float(values[order[min(position, len(values) - 1)]])
