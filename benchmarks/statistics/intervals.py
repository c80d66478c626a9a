"""Intervals at 95 %."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from benchmarks.statistics.samples import Floats

LEVEL = 0.95
N_RESAMPLES = 1000
N_RESAMPLES_OF_MANY, MANY = 200, 10_000
SEED = 7  # the same data give the same interval

Interval = tuple[float, float]


def wilson(k: int, n: int) -> Interval:
    """Of a proportion k / n. n >= 1."""
    found = stats.binomtest(k, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def quantile_interval(rounds: Sequence[Floats], quantile: float) -> Interval | None:
    """Of a quantile of requests. One round: the order statistics that enclose it by the binomial law, None where there are
    too few values. Several: hierarchical bootstrap. No round may be empty."""
    if len(rounds) > 1:
        n = N_RESAMPLES if sum(map(len, rounds)) < MANY else N_RESAMPLES_OF_MANY
        return percentile_interval(resampled_quantiles(rounds, quantile, n=n))
    ordered = np.sort(rounds[0])
    low, high = stats.binom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], len(ordered), quantile).astype(int)
    return (float(ordered[low - 1]), float(ordered[high])) if low > 0 and high < len(ordered) else None


def resampled_quantiles(
    rounds: Sequence[Floats],
    quantile: float,
    *,
    n: int = N_RESAMPLES,
    seed: int = SEED,
    rounds_seed: int | None = None,
) -> Floats:
    """Quantiles, shape (n,), of the pooled values under the hierarchical bootstrap: rounds first, then requests in each.

    Two arms of the same `rounds_seed` draw the same rounds, so that pairs of rounds stay together."""
    choices = np.random.default_rng(seed if rounds_seed is None else rounds_seed)
    random = np.random.default_rng([seed, 1])
    found = np.empty(n)
    for number in range(n):
        chosen = choices.integers(len(rounds), size=len(rounds))
        values = [random.choice(rounds[each], len(rounds[each])) for each in chosen]
        found[number] = np.quantile(np.concatenate(values), quantile)
    return found


def percentile_interval(resampled: Floats) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def rate_interval(values: Sequence[float]) -> Interval | None:
    """Of a positive rate measured once per round: Student's t on the logarithms. None below three rounds."""
    if len(values) < 3 or min(values) <= 0:
        return None
    logs = np.log(values)
    half = stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
