"""Comparisons of p95 and p99: requests pooled, hierarchical bootstrap."""

from collections.abc import Sequence

import numpy as np

from benchmarks.statistics.intervals import percentile_interval, resampled_quantiles
from benchmarks.statistics.medians import SPREAD_UNKNOWN, Rounds, spread_of
from benchmarks.statistics.metrics import Metric
from benchmarks.statistics.samples import Floats
from benchmarks.statistics.summary import LEAST
from benchmarks.statistics.verdicts import LEAST_PAIRS, Comparison, judge, sign, threshold, unknown

SEED = 11


def compare_tails(metric: Metric, a: Rounds, b: Rounds, history: Sequence[Rounds]) -> Comparison:
    assert metric.sample is not None
    assert metric.quantile is not None
    keys = {(each.run, each.round) for each in a} & {(each.run, each.round) for each in b}
    paired = bool(keys)
    sides = [_filled(metric, each, keys if paired else None) for each in (a, b)]
    sizes = [sum(map(len, each)) for each in sides]
    least = LEAST[metric.quantile]
    if min(sizes) < least:
        return unknown(metric, f"Needs {least} requests on each side; there are {sizes[0]} and {sizes[1]}.")
    resampled = [
        np.log(
            resampled_quantiles(
                side, metric.quantile, seed=SEED + number, rounds_seed=SEED if paired else None
            )
        )
        for number, side in enumerate(sides)
    ]
    differences = sign(metric) * (resampled[1] - resampled[0])
    told = f"Requests: {sizes[0]} and {sizes[1]}."
    degrees = None
    if not paired:
        past = [_filled(metric, each, None) for each in history]
        means = [_log_quantile(each, metric.quantile) for each in past if sum(map(len, each)) >= least]
        spread, degrees = spread_of(means)
        scale = spread * np.sqrt(2)
        random = np.random.default_rng(SEED)
        differences = differences + scale * (
            random.standard_normal(len(differences))
            if degrees is None
            else random.standard_t(degrees, len(differences))
        )
        told += f" Spread from run to run: {spread:.1%}{' assumed' if degrees is None else ''}."
    difference = sign(metric) * (
        _log_quantile(sides[1], metric.quantile) - _log_quantile(sides[0], metric.quantile)
    )
    beyond = np.mean(np.sign(difference) * differences <= threshold(metric))
    p = min(1.0, 2 * max(float(beyond), 1 / len(differences)))
    n_rounds = min(map(len, sides))
    doubt = ""
    if n_rounds < LEAST_PAIRS:
        doubt = f"{LEAST_PAIRS} rounds on each side are needed; one has {n_rounds}."
    elif not paired and degrees is None:
        doubt = SPREAD_UNKNOWN
    return judge(
        metric,
        difference,
        percentile_interval(differences),
        p,
        paired=paired,
        n=sum(sizes),
        doubt=doubt,
        told=told,
    )


def _filled(metric: Metric, rounds: Rounds, keys: set[tuple[str, int]] | None) -> list[Floats]:
    assert metric.sample is not None
    chosen = sorted(rounds, key=lambda each: (each.run, each.round))
    return [
        np.maximum(
            np.array(each.samples[metric.sample]), 1e-3
        )  # a microsecond: logarithms need more than zero
        for each in chosen
        if (keys is None or (each.run, each.round) in keys) and each.samples.get(metric.sample)
    ]


def _log_quantile(rounds: Sequence[Floats], quantile: float) -> float:
    return float(np.log(np.quantile(np.concatenate(rounds), quantile)))
