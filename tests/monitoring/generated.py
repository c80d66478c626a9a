"""Series of known truth, a value a second, and how the analysis fares on them. Shared by tests and `make bench`."""

from collections.abc import Callable, Iterator

import numpy as np

from monitoring.alerts.baselines import IDLE
from monitoring.analysis.study import Kind, believed_of_look, believed_of_study, look, study
from monitoring.analysis.usual import BLOCK_S, BUCKET_S, DAY_S, IN_WINDOW, MINUTE_S, WEEK_S, States, usual_of
from monitoring.store.packing import Floats

Random = np.random.Generator
LEVEL = 50.0


def white(random: Random, n: int, sd: float = 5.0) -> Floats:
    return LEVEL + random.normal(0, sd, n)


def resembling(random: Random, n: int, alike: float = 0.9, sd: float = 5.0) -> Floats:
    """AR(1): each second resembles the one before."""
    from scipy.signal import lfilter

    shocks = random.normal(0, sd * np.sqrt(1 - alike**2), n)
    found: Floats = LEVEL + lfilter([1], [1, -alike], shocks)
    return found


def slow(random: Random, n: int) -> Floats:
    return resembling(random, n, alike=0.99)


def bursts(random: Random, n: int) -> Floats:
    """Nothing for minutes, then some seconds of traffic, each burst of another height."""
    lengths = [random.exponential(mean, n // 200 + 10).astype(int) + 1 for mean in (300, 30)]
    heights = random.exponential(50, len(lengths[0]))
    found = np.repeat(np.stack([np.zeros(len(heights)), heights], 1).ravel(), np.stack(lengths, 1).ravel())
    noisy: Floats = np.resize(found, n) + random.normal(0, 1, n)
    return noisy


def heavy(random: Random, n: int) -> Floats:
    """Pareto, shape 3: its fourth moment is infinite."""
    found: Floats = 10 * (1 + random.pareto(3, n))
    return found


def daily(random: Random, n: int) -> Floats:
    found: Floats = resembling(random, n, sd=3.0) + 15 * np.sin(2 * np.pi * np.arange(n) / DAY_S)
    return found


STATIONARY: dict[str, Callable[[Random, int], Floats]] = {
    "white noise": white,
    "AR(1), 0.9": resembling,
    "AR(1), 0.99": slow,
    "bursts": bursts,
    "heavy tail": heavy,
    "daily cycle": daily,
}
# Where a fifth of the level can be told from the noise within minutes at all.
SHIFTING = {name: STATIONARY[name] for name in ("white noise", "AR(1), 0.9", "daily cycle")}


def means(values: Floats, seconds: int) -> Floats:
    found: Floats = values[: len(values) // seconds * seconds].reshape(-1, seconds).mean(1)
    return found


def idle(n: int) -> States:
    return np.full(n, IDLE, np.int8)


def false_anomalies(values: Floats) -> int:
    """How many findings begin in the last week of two, at a look a minute; what is usual is learnt anew each day."""
    minutes, tens = means(values, MINUTE_S), means(values, BUCKET_S)
    n, n_back, is_open = 0, 0, False
    for day in range(WEEK_S, 2 * WEEK_S, DAY_S):
        usual = usual_of(
            day - WEEK_S, minutes[(day - WEEK_S) // MINUTE_S : day // MINUTE_S], idle(WEEK_S // MINUTE_S)
        )
        assert usual is not None
        for start in range(day, min(day + DAY_S, 2 * WEEK_S - BLOCK_S), MINUTE_S):
            window = tens[start // BUCKET_S : start // BUCKET_S + IN_WINDOW]
            found = look("x_percent", usual, start, window, idle(IN_WINDOW))
            assert found is not None
            if is_open:
                n_back = n_back + 1 if found.facts["is_usual"] else 0
                is_open = n_back < 3
            elif believed_of_look([found]):
                n, n_back, is_open = n + 1, 0, True
    return n


def false_of_studies(values: Floats, every_h: int = 6) -> int:
    """How many findings of other kinds begin in the last week of three."""
    minutes, n = means(values, MINUTE_S), 0
    before: set[Kind] = set()
    for hour in range(2 * WEEK_S // 3600, 3 * WEEK_S // 3600, every_h):
        past = minutes[: hour * 60]
        believed = believed_of_study(study("x_percent", 0, past, idle(len(past)), 100.0).candidates)
        now = {each.kind for each in believed}
        n += len(now - before)
        before = now
    return n


def seconds_to_find(
    make: Callable[[Random, int], Floats], random: Random, n_shifts: int, by: float = 0.2
) -> Iterator[float]:
    """From a lasting shift by a share of the level to the look that finds it, looks coming each minute; inf after 15 min."""
    values = make(random, WEEK_S + DAY_S)
    usual = usual_of(0, means(values[:WEEK_S], MINUTE_S), idle(WEEK_S // MINUTE_S))
    assert usual is not None
    for place in range(n_shifts):
        at = WEEK_S + 1000 + place * (DAY_S - 3000) // n_shifts
        shifted = values[at - 600 : at + 900].copy()
        shifted[600:] += by * LEVEL
        first, took = at - 600, float("inf")
        for now in range(at + int(random.integers(0, MINUTE_S)), at + 900, MINUTE_S):
            end = now - now % BUCKET_S
            window = means(shifted[end - BLOCK_S - first : end - first], BUCKET_S)
            found = look("x_percent", usual, end - BLOCK_S, window, idle(IN_WINDOW))
            if found is not None and believed_of_look([found]):
                took = float(now - at)
                break
        yield took
