"""Distance of two models' next-token distributions at the same prefixes. Definitions: docs/measurement.md.

Through the public API only the most likely tokens of each are known. The sum over those that both lists have, with all the
rest as one cell, is a lower bound of the true divergence: joining cells never raises it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

N_RESAMPLES, SEED, LEVEL = 4000, 7, 0.95
TINY = 1e-9  # of a rest that rounding made zero or less
Top = Mapping[bytes, float]  # token -> natural log of its probability, the most likely ones of one position
Interval = tuple[float, float]


@dataclass(frozen=True)
class Position:
    """What both models say after the same prefix, and the token that the reference chose there."""

    chosen: bytes
    reference: Top
    candidate: Top


@dataclass(frozen=True)
class Estimate:
    """A mean over positions with its interval at 95 % (None: fewer than three prompts)."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Divergence:
    """`kl`: nats per token, a lower bound; `same_top` and `rms_delta_p` as shares (0..1); `kl_p99`: None below 100
    positions; `n_flips`: positions whose most likely token differs."""

    n_prompts: int
    n_positions: int
    kl: Estimate
    kl_median: float
    kl_p99: float | None
    same_top: Estimate
    rms_delta_p: Estimate
    n_flips: int


def kl(reference: Top, candidate: Top) -> float:
    """Kullback-Leibler divergence in nats of `candidate` from `reference`, at least; never below 0."""
    known = reference.keys() & candidate.keys()
    total, p_known, q_known = 0.0, 0.0, 0.0
    for token in known:
        p, q = math.exp(reference[token]), math.exp(candidate[token])
        total += p * (reference[token] - candidate[token]) if p > 0 else 0.0
        p_known, q_known = p_known + p, q_known + q
    p_rest, q_rest = 1 - p_known, max(1 - q_known, TINY)
    if p_rest > TINY:
        total += p_rest * math.log(p_rest / q_rest)
    return max(total, 0.0)


def top(distribution: Top) -> bytes:
    """The most likely token; of equals the first in order of their bytes, so that both models choose alike."""
    return min(distribution, key=lambda token: (-distribution[token], token))


def probability(distribution: Top, token: bytes) -> float:
    """0 for a token beyond the list: less than the last of the list has."""
    return math.exp(distribution[token]) if token in distribution else 0.0


def measure(prompts: Sequence[Sequence[Position]]) -> Divergence:
    """Over all positions; positions of one prompt resemble each other, so intervals resample whole prompts.

    Raises ValueError without a single position."""
    prompts = [each for each in prompts if each]
    if not prompts:
        raise ValueError("no position to compare")
    divergences = [np.array([kl(p.reference, p.candidate) for p in each]) for each in prompts]
    same = [np.array([top(p.reference) == top(p.candidate) for p in each], float) for each in prompts]
    squares = [
        np.array(
            [(probability(p.candidate, p.chosen) - probability(p.reference, p.chosen)) ** 2 for p in each]
        )
        for each in prompts
    ]
    pooled = np.concatenate(divergences)
    rms = _mean(squares)
    return Divergence(
        n_prompts=len(prompts),
        n_positions=len(pooled),
        kl=_mean(divergences),
        kl_median=float(np.median(pooled)),
        kl_p99=float(np.quantile(pooled, 0.99)) if len(pooled) >= 100 else None,
        same_top=_mean(same),
        rms_delta_p=Estimate(
            math.sqrt(rms.value), rms.interval and (math.sqrt(rms.interval[0]), math.sqrt(rms.interval[1]))
        ),
        n_flips=int(sum(len(each) - each.sum() for each in same)),
    )


def _mean(prompts: Sequence[npt.NDArray[np.float64]]) -> Estimate:
    """Mean over all positions; the interval by the bootstrap over prompts (BCa where it exists)."""
    sums, sizes = np.array([each.sum() for each in prompts]), np.array([len(each) for each in prompts], float)
    value = float(sums.sum() / sizes.sum())
    if len(prompts) < 3:
        return Estimate(value, None)
    if np.ptp(sums / sizes) == 0:  # all alike: no resample differs
        return Estimate(value, (value, value))
    found = scipy.stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(value, (float(found.low), float(found.high)))
