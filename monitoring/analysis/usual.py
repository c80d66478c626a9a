"""What is usual for a series, and how unlike it a few minutes are. No Django in here.

The past is cut into blocks of BLOCK_S, each with its mean, in populations by load (idle, busy, changing). A population
has a median for each hour of the day (from DAYS_OF_PROFILE days on) or of the week (from WEEKS_OF_PROFILE weeks on), between
whose middles it is interpolated; hours are those of a zone's wall clock, so that summer time moves none. How far a window of
the same length is from there is judged by the tail of the past's own distances: a generalized Pareto distribution over the
uppermost 5 % of each side (peaks over threshold: Siffer et al., KDD 2017), so that neither a normal distribution nor
independent seconds are assumed."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.alerts.baselines import AGREES, BUSY, CHANGING, IDLE, UNKNOWN
from monitoring.analysis.wall_clock import DEFAULT, wall
from monitoring.store.packing import Floats
from monitoring.store.rollups import Buckets

MINUTE_S, HOUR_S, DAY_S, WEEK_S = 60, 3600, 86_400, 7 * 86_400
BLOCK_S, BUCKET_S = 180, 10
MINUTES, IN_WINDOW = BLOCK_S // MINUTE_S, BLOCK_S // BUCKET_S
LEAST_BLOCKS = 480  # a day of a population before anything is called unlike it
DAYS_OF_PROFILE, WEEKS_OF_PROFILE = 3, 3
LEAST_OF_HOUR = 20  # blocks; an hour with fewer takes the population's median
BEYOND = 0.05  # the share of the past that its tail is fitted to
MOST_SHAPE = 0.4
States = npt.NDArray[np.int8]


def load_states(load: Buckets | None, n: int, busy_at: float) -> States:
    """Of `n` buckets whether all of each was below `busy_at`, above, or both; without a load all are of one kind."""
    if load is None:
        return np.full(n, IDLE, np.int8)
    mixed = np.where(load.high < busy_at, IDLE, CHANGING)
    found = np.where(load.low >= busy_at, BUSY, mixed)
    return np.where(load.count > 0, found, UNKNOWN).astype(np.int8)


def joined(states: States) -> States:
    """(n, k) -> (n,): what k neighbours have in common; UNKNOWN where one is."""
    same = np.where((states == states[:, :1]).all(1), states[:, 0], CHANGING)
    return np.where((states == UNKNOWN).any(1), UNKNOWN, same).astype(np.int8)


@dataclass(frozen=True)
class Tail:
    """Above `start`, heights follow a generalized Pareto distribution of `spread` and `shape` >= 0 (0: exponential)."""

    start: float
    spread: float
    shape: float

    def p(self, height: float) -> float:
        """The chance of such a height or a greater one; BEYOND where it is no tail."""
        over = (height - self.start) / self.spread
        if over <= 0:
            return BEYOND
        if self.shape < 1e-6:
            return BEYOND * math.exp(-min(over, 700.0))
        return float(BEYOND * (1 + self.shape * over) ** (-1 / self.shape))


def tail_of(heights: Floats, floor: float) -> Tail:
    """By moments (Hosking & Wallis 1987). A shape below 0 would promise that nothing greater can come: taken as 0."""
    start = float(np.quantile(heights, 1 - BEYOND))
    over = heights[heights > start] - start
    if len(over) < 3:
        return Tail(start, floor, 0.0)
    mean, variance = float(over.mean()), float(over.var(ddof=1))
    shape = 0.5 * (1 - mean * mean / variance) if variance > 0 else 0.0
    shape = min(max(shape, 0.0), MOST_SHAPE)
    return Tail(start, max(mean * (1 - shape), floor), shape)


@dataclass(frozen=True)
class Population:
    """`profile`: the median of each hour, of the day or of the week; empty: one for all. `scale`: 1.4826 x MAD of the blocks."""

    n: int
    middle: float
    profile: tuple[float, ...]
    scale: float
    above: Tail
    below: Tail
    zone: str = DEFAULT

    def expected(self, at: "Floats | float") -> Floats:
        """At instants (s since 1970)."""
        hours = len(self.profile)
        if not hours:
            return np.full(np.shape(at), self.middle)
        # 1970 began on a Thursday; only the same place in each week matters.
        place = wall(at, self.zone) / HOUR_S % hours
        found: Floats = np.interp(place, np.arange(hours) + 0.5, np.array(self.profile), period=hours)
        return found

    def range_at(self, at: float) -> tuple[float, float]:
        """Where 90 % of the past's blocks were at that hour."""
        middle = float(self.expected(at))
        return middle - self.below.start, middle + self.above.start


@dataclass(frozen=True)
class Judgement:
    """`p`: two-sided chance of such a window in the past. `away`: from `expected`, in the series' unit; `agrees`: AGREES of the
    buckets lie on that side."""

    p: float
    z: float
    value: float
    expected: float
    away: float
    agrees: bool
    state: int

    @property
    def is_usual(self) -> bool:
        """Within the 90 % of the past around its middle."""
        return self.p >= 2 * BEYOND


@dataclass(frozen=True)
class Usual:
    """Of one series; `since` and `until` (s since 1970) bound the past that it was made of."""

    since: int
    until: int
    populations: dict[int, Population]

    @property
    def weeks(self) -> float:
        return (self.until - self.since) / WEEK_S

    def judge(self, start: int, means: Floats, states: States) -> Judgement | None:
        """The window of IN_WINDOW buckets that begins at `start`; None where it has gaps (80 % have to be there) or its
        population is too little known."""
        known = np.isfinite(means)
        n = int(known.sum())
        if n < IN_WINDOW * 0.8:
            return None
        state = int(joined(states[known][None, :])[0])
        population = self.populations.get(state)
        if population is None:
            return None
        times = start + BUCKET_S * (np.flatnonzero(known).astype(np.float64) + 0.5)
        expected = population.expected(times)
        away = means[known] - expected
        mean = float(away.mean())
        tail = population.above if mean >= 0 else population.below
        alike = int((away > 0).sum() if mean >= 0 else (away < 0).sum())
        return Judgement(
            min(2 * tail.p(abs(mean)), 1.0),
            mean / population.scale,
            float(means[known].mean()),
            float(expected.mean()),
            mean,
            alike >= AGREES * n,
            state,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> "Usual":
        populations = {}
        for state, found in data["populations"].items():
            tails = {name: Tail(**found[name]) for name in ("above", "below")}
            profile = tuple(found["profile"])
            populations[int(state)] = Population(**{**found, **tails, "profile": profile})
        return cls(data["since"], data["until"], populations)


def usual_of(start: int, means: Floats, states: States, zone: str = DEFAULT) -> Usual | None:
    """From minutes: their means (NaN: unknown) and load states from `start` on, a multiple of BLOCK_S; `zone`: whose hours. None
    while there is too little."""
    n = len(means) // MINUTES
    blocks = means[: n * MINUTES].reshape(n, MINUTES).mean(1)
    kinds = joined(states[: n * MINUTES].reshape(n, MINUTES))
    times = start + BLOCK_S * (np.arange(n) + 0.5)
    known = np.flatnonzero(np.isfinite(blocks))
    if not len(known):
        return None
    since, until = start + int(known[0]) * BLOCK_S, start + (int(known[-1]) + 1) * BLOCK_S
    populations = {}
    for state in (IDLE, BUSY, CHANGING):
        mine = np.isfinite(blocks) & (kinds == state)
        if mine.sum() >= LEAST_BLOCKS:
            populations[state] = _population(times[mine], blocks[mine], until - since, zone)
    return Usual(since, until, populations) if populations else None


def _population(times: Floats, blocks: Floats, span_s: int, zone: str) -> Population:
    middle = float(np.median(blocks))
    weekly = span_s >= WEEKS_OF_PROFILE * WEEK_S
    hours = 168 if weekly else 24 if span_s >= DAYS_OF_PROFILE * DAY_S else 0
    profile: tuple[float, ...] = ()
    if hours:
        places = (wall(times, zone) // HOUR_S % hours).astype(np.intp)
        found = np.full(hours, middle)
        for hour in range(hours):
            mine = blocks[places == hour]
            if len(mine) >= LEAST_OF_HOUR:
                found[hour] = np.median(mine)
        profile = tuple(float(f"{each:.6g}") for each in found)
    bare = Population(len(blocks), middle, profile, 1.0, Tail(0, 1, 0), Tail(0, 1, 0), zone)
    away = blocks - bare.expected(times)
    # A series that hardly ever moves: a hundredth of its size counts as one deviation.
    floor = max(0.01 * abs(middle), 1e-9)
    scale = max(1.4826 * float(np.median(np.abs(away - np.median(away)))), floor)
    return replace(bare, scale=scale, above=tail_of(away, floor), below=tail_of(-away, floor))
