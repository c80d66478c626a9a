"""What a comparison says, and the one place where a difference is called one."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.statistics.metrics import Metric

LEAST_PAIRS = 6
LEAST_REQUESTS = 10

Verdict = Literal["better", "worse", "no difference shown"]
NO_DIFFERENCE: Verdict = "no difference shown"


class Comparison(BaseModel):
    """Of B with A. `ratio`: B / A with its interval at 95 %, None where none can be given. `p`: of no improvement or
    deterioration beyond the threshold, two-sided. `not_worse`: the interval excludes a deterioration beyond the threshold; of
    shares: it is not shown that it is worse."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    ratio: float | None
    low: float | None
    high: float | None
    p: float
    verdict: Verdict
    not_worse: bool
    paired: bool
    n: int  # pairs; unpaired: rounds of both; for tails and shares: requests of both
    why: str


class Decision(BaseModel):
    """Over several metrics, with Holm's correction. `verdict` "better": one is better, none worse, all guardrails are held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    comparisons: list[Comparison]
    guardrails: list[Comparison]
    verdict: Verdict
    why: str


def sign(metric: Metric) -> int:
    """Makes a positive logarithm of a ratio an improvement."""
    return 1 if metric.better == "higher" else -1


def threshold(metric: Metric) -> float:
    return float(np.log1p(metric.effect))


def judge(
    metric: Metric,
    difference: float,
    interval: tuple[float, float],
    p: float,
    *,
    paired: bool,
    n: int,
    doubt: str,
    told: str = "",
) -> Comparison:
    """`difference` and `interval`: signed logarithms; `doubt`: why it must not be called a difference whatever they say."""
    limit = threshold(metric)
    low, high = interval
    verdict: Verdict = NO_DIFFERENCE
    if doubt:
        why = doubt
    elif low > limit:
        verdict, why = "better", f"The whole interval is beyond {metric.effect:.0%}."
    elif high < -limit:
        verdict, why = "worse", f"The whole interval is beyond {metric.effect:.0%}."
    else:
        why = f"The interval is not wholly beyond {metric.effect:.0%}."
    ends = sorted(float(np.exp(sign(metric) * each)) for each in interval)
    return Comparison(
        metric=metric.key,
        ratio=float(np.exp(sign(metric) * difference)),
        low=ends[0],
        high=ends[1],
        p=min(max(p, 0.0), 1.0),
        verdict=verdict,
        not_worse=not doubt and low > -limit,
        paired=paired,
        n=n,
        why=f"{why} {told}".strip(),
    )


def unknown(metric: Metric, why: str) -> Comparison:
    return Comparison(
        metric=metric.key, ratio=None, low=None, high=None, p=1.0, verdict=NO_DIFFERENCE, not_worse=False,
        paired=False, n=0, why=why,
    )  # fmt: skip
