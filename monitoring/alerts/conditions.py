"""The kinds of conditions: what of a series is compared with the thresholds. No Django in here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from monitoring.alerts.baselines import Deviation, Side
from monitoring.alerts.machine import Terms
from monitoring.alerts.series import Selector, split_series
from monitoring.alerts.trends import Forecast, Rate
from monitoring.alerts.windows import Aggregate, Presence, ShareWindow, Window
from monitoring.store.rollups import Buckets

DAY_S = 24 * 3600


class Kind(StrEnum):
    THRESHOLD = "threshold"
    RATE = "rate"
    DEVIATION = "deviation"
    FORECAST = "forecast"
    NO_DATA = "no_data"
    COMPOSITE = "composite"


@dataclass(frozen=True)
class RuleSpec:
    """What evaluating a rule needs.

    `companion`: the metric with the same labels, or else the series, that a share is of or that tells idle from busy.
    `members`: ids of the rules that a composite joins. `part`: it is evaluated for a composite only, and raises no alerts."""

    id: int
    selector: Selector
    terms: Terms
    kind: Kind = Kind.THRESHOLD
    aggregate: Aggregate = Aggregate.LAST
    window_s: int = 1
    companion: str = ""
    min_count: float = 0.0
    per_s: int = 60
    side: Side = Side.ABOVE
    past_s: int = DAY_S
    busy_at: float | None = None
    least: float = 0.0
    limit: float = 0.0
    members: tuple[int, ...] = ()
    all_of: bool = True
    part: bool = False


class Signal(Protocol):
    """What is compared, kept up one sample at a time. `history`: (seconds, tier) of the store that `prime` takes."""

    @property
    def history(self) -> tuple[int, int]: ...

    def push(self, second: int, value: float | None, other: float | None = None) -> None: ...

    def prime(self, start: int, step: int, main: Buckets, other: Buckets | None) -> None:
        """Take what was before the start: `step` seconds a bucket, of the series and of its companion."""

    def value(self) -> float | None: ...


def signal_of(rule: RuleSpec) -> Signal:
    """A fresh one, of a rule that is no composite."""
    if rule.kind is Kind.RATE:
        return Rate(rule.window_s, rule.per_s)
    if rule.kind is Kind.DEVIATION:
        busy_at = rule.busy_at if rule.companion else None
        return Deviation(rule.window_s, rule.past_s, rule.side, busy_at=busy_at, least=rule.least)
    if rule.kind is Kind.FORECAST:
        return Forecast(rule.window_s, rule.limit, rising=rule.side is Side.ABOVE)
    if rule.kind is Kind.NO_DATA:
        return Presence()
    if rule.aggregate is Aggregate.SHARE:
        return ShareWindow(rule.window_s, rule.min_count)
    return Window(rule.window_s, rule.aggregate)


def companions_of(rule: RuleSpec, series: str) -> tuple[str, ...]:
    """Names that the companion may have, the likeliest first: with the labels of `series` and, for a load, without."""
    if not rule.companion:
        return ()
    if "{" in rule.companion:
        return (rule.companion,)
    alike = rule.companion + series.removeprefix(split_series(series)[0])
    return (alike, rule.companion) if rule.kind is Kind.DEVIATION and alike != rule.companion else (alike,)


def series_of_composite(rule: RuleSpec) -> str:
    """Stands for a series: a composite has one state a host. The alert's labels say the rule's name in place of its id."""
    return f"conditions{{rule={rule.id}}}"
