"""Intervals at 95 %."""

from collections.abc import Sequence

import numpy as np
import scipy  # scipy.stats is loaded at its first use: an idle process saves 45 MB

from benchmarks.statistics.samples import Floats

LEVEL = 0.95
N_RESAMPLES = 1000
N_RESAMPLES_OF_MANY, MANY = 200, 10_000
MAX_DRAWS = 2_000_000  # held at a time
SEED = 7  # the same data give the same interval

Interval = tuple[float, float]


def wilson(k: int, n: int) -> Interval:
    """Of a proportion k / n. n >= 1."""
    found = scipy.stats.binomtest(k, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def quantile_interval(rounds: Sequence[Floats], quantile: float) -> Interval | None:
    """Of a quantile of requests. One round: the order statistics that enclose it by the binomial law, None where there are
    too few values. Several: hierarchical bootstrap. No round may be empty."""
    if len(rounds) > 1:
        n = N_RESAMPLES if sum(map(len, rounds)) < MANY else N_RESAMPLES_OF_MANY
        return percentile_interval(resampled_quantiles(rounds, quantile, n=n))
    ordered = np.sort(rounds[0])
    low, high = scipy.stats.binom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], len(ordered), quantile).astype(int)
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
    sizes = np.array([len(each) for each in rounds])
    pooled = np.concatenate(rounds)
    starts = np.cumsum(sizes) - sizes
    choices = np.random.default_rng(seed if rounds_seed is None else rounds_seed)
    chosen = choices.integers(len(rounds), size=(n, len(rounds)))
    random = np.random.default_rng([seed, 1])
    at_once = max(1, MAX_DRAWS // (len(rounds) * int(sizes.max())))
    found = np.empty(n)
    for start in range(0, n, at_once):
        mine = chosen[start : start + at_once, :, np.newaxis]
        drawn = random.random((len(mine), len(rounds), sizes.max()))
        values = pooled[starts[mine] + (drawn * sizes[mine]).astype(int)]
        values[np.broadcast_to(np.arange(sizes.max()) >= sizes[mine], values.shape)] = (
            np.inf
        )  # a shorter round
        ordered = np.sort(values.reshape(len(mine), -1))
        place = quantile * (sizes[mine].sum(axis=(1, 2)) - 1)
        below = place.astype(int)
        row = np.arange(len(mine))
        low, high = ordered[row, below], ordered[row, np.ceil(place).astype(int)]
        found[start : start + at_once] = low + (place - below) * (high - low)
    return found


def percentile_interval(resampled: Floats) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def rate_interval(values: Sequence[float]) -> Interval | None:
    """Of a positive rate measured once per round: Student's t on the logarithms. None below three rounds."""
    if len(values) < 3 or min(values) <= 0:
        return None
    logs = np.log(values)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
