"""Comparisons of one value per round: medians and rates; in pairs of rounds, or from run to run."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import scipy  # scipy.stats is loaded at its first use: an idle process saves 45 MB

from benchmarks.statistics.intervals import LEVEL, percentile_interval
from benchmarks.statistics.metrics import Metric
from benchmarks.statistics.rounds import RoundSummary
from benchmarks.statistics.verdicts import (
    LEAST_PAIRS,
    LEAST_REQUESTS,
    Comparison,
    judge,
    sign,
    threshold,
    unknown,
)

LEAST_HISTORY = 3
ASSUMED_SPREAD = 0.02  # of the logarithm, from run to run; good for an interval to look at, not for a verdict
SPREAD_UNKNOWN = (
    f"How far runs differ by themselves is not known: {LEAST_HISTORY} earlier runs of A's configuration would tell. "
    "Measured in one run, where they take turns, both can be compared at once."
)
N_RESAMPLES = 5000
SEED = 11

Rounds = Sequence[RoundSummary]


def pairs_of(a: Rounds, b: Rounds, key: str) -> list[tuple[RoundSummary, RoundSummary]]:
    of_b = {(each.run, each.round): each for each in b}
    found = [(each, of_b[each.run, each.round]) for each in a if (each.run, each.round) in of_b]
    return [(one, other) for one, other in found if key in one.values and key in other.values]


def compare_pairs(metric: Metric, pairs: list[tuple[RoundSummary, RoundSummary]]) -> Comparison:
    values = np.array([(one.values[metric.key], other.values[metric.key]) for one, other in pairs])
    if len(pairs) < 2 or values.min() <= 0:
        return unknown(metric, f"A ratio needs {LEAST_PAIRS} pairs of rounds with values above zero.")
    differences = sign(metric) * np.log(values[:, 1] / values[:, 0])
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(pairs))
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, len(pairs) - 1) * error
    chosen = np.random.default_rng(SEED).integers(len(pairs), size=(N_RESAMPLES, len(pairs)))
    low, high = percentile_interval(differences[chosen].mean(axis=1))
    low, high = min(low, mean - half), max(high, mean + half)
    beyond = abs(mean) - threshold(metric)
    p = float(2 * scipy.stats.t.sf(beyond / error, len(pairs) - 1)) if error else float(beyond <= 0)
    least = min(min(one.n_ok, other.n_ok) for one, other in pairs)
    doubt = ""
    if len(pairs) < LEAST_PAIRS:
        doubt = f"{LEAST_PAIRS} pairs of rounds are needed; there are {len(pairs)}."
    elif least < LEAST_REQUESTS:
        doubt = f"Each round needs {LEAST_REQUESTS} requests that ended well; one has {least}."
    return judge(metric, mean, (low, high), p, paired=True, n=len(pairs), doubt=doubt)


def compare_runs(metric: Metric, a: Rounds, b: Rounds, history: Sequence[Rounds]) -> Comparison:
    logs = [_run_logs(metric, each) for each in (a, b)]
    if not all(logs):
        return unknown(metric, "A ratio needs values above zero on both sides.")
    means = [np.mean([np.mean(run) for run in runs]) for runs in logs]
    difference = float(means[1] - means[0])
    spread, degrees = spread_of([float(np.mean(run)) for each in history for run in _run_logs(metric, each)])
    n_runs = 1 / len(logs[0]) + 1 / len(logs[1])
    if degrees is not None:  # the history's spread has the noise of rounds in it
        error, df = spread * np.sqrt(n_runs), float(degrees)
    else:
        within = [np.concatenate([np.array(run) - np.mean(run) for run in runs]) for runs in logs]
        free = [len(each) - len(runs) for each, runs in zip(within, logs, strict=True)]
        if min(free) < 1:
            return unknown(metric, "Each side needs two rounds or more.")
        parts = [float(np.sum(each**2)) / n / len(each) for each, n in zip(within, free, strict=True)]
        variance = sum(parts) + spread**2 * n_runs
        error = np.sqrt(variance)
        welch = sum(
            part**2 / n for part, n in zip(parts, free, strict=True)
        )  # the assumed spread counts as known
        df = variance**2 / welch if welch else np.inf
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, df) * error
    beyond = abs(difference) - threshold(metric)
    p = float(2 * scipy.stats.t.sf(beyond / error, df)) if error else float(beyond <= 0)
    rounds = min(len(a), len(b))
    least = min(each.n_ok for each in (*a, *b))
    doubt = ""
    if rounds < LEAST_PAIRS:
        doubt = f"{LEAST_PAIRS} rounds on each side are needed; one has {rounds}."
    elif least < LEAST_REQUESTS:
        doubt = f"Each round needs {LEAST_REQUESTS} requests that ended well; one has {least}."
    elif degrees is None:
        doubt = SPREAD_UNKNOWN
    told = (
        f"Spread from run to run: {spread:.1%}, from {len(history)} earlier runs."
        if degrees is not None
        else f"The interval assumes a spread of {spread:.0%}."
    )
    interval = (difference - half, difference + half)
    return judge(metric, difference, interval, p, paired=False, n=len(a) + len(b), doubt=doubt, told=told)


def _run_logs(metric: Metric, rounds: Rounds) -> list[list[float]]:
    """Signed logarithms by run."""
    by_run: dict[str, list[float]] = defaultdict(list)
    for each in rounds:
        value = each.values.get(metric.key)
        if value is not None and value > 0:
            by_run[each.run].append(sign(metric) * float(np.log(value)))
    return list(by_run.values())


def spread_of(run_means: Sequence[float]) -> tuple[float, int | None]:
    """(standard deviation from run to run, its degrees of freedom); None: assumed."""
    if len(run_means) < LEAST_HISTORY:
        return ASSUMED_SPREAD, None
    return float(np.std(run_means, ddof=1)), len(run_means) - 1
