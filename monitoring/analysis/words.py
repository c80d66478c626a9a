"""Findings in words: a sentence, what to do, and how it was found. No Django in here.

Every number in a sentence is one of the finding's facts."""

from collections.abc import Mapping
from typing import Any

from monitoring.alerts.baselines import BUSY, CHANGING, IDLE
from monitoring.alerts.series import duration, format_value, split_series, unit_of
from monitoring.analysis.study import Kind

STATES = {
    IDLE: "while no request ran",
    BUSY: "while requests ran",
    CHANGING: "while requests came and went",
}
# (metric begins with, upwards) -> what to do; the first that fits.
ADVICE: tuple[tuple[str, bool, str], ...] = (
    ("disk_used", True, "Delete models or old data, or move them: a full disk stops everything that stores."),
    (
        "memory_used",
        True,
        "Look on the live page at which process grows. A model with a shorter context, or one model less, makes room;"
        " a process that grows for days leaks and wants a restart.",
    ),
    ("swap_", True, "Memory is short: unload a model, or choose a smaller quantization."),
    (
        "gpu_memory",
        True,
        "A model that no longer fits runs on the CPU in part: unload one, or shorten its context.",
    ),
    ("gpu_temperature", True, "Look at fans, dust and airflow; a lower power limit helps at once."),
    ("gpu_power", True, "See which model runs, and whether its power limit is still set."),
    ("temperature", True, "Look at fans, dust and airflow."),
    ("gateway_ttft", True, "See queue and context lengths: long prompts and waiting requests delay the first token."),
    ("gateway_total", True, "See whether answers became longer or slower: compare tokens per second of that time."),
    ("gateway_errors", True, "See the requests of that time, and the engine's log."),
    ("gateway_queued", True, "More parallel requests, or a second engine, shorten the queue; a benchmark tells how many."),
    ("model_decode", False, "See what else was otherwise then; history has speed, power and clocks on one cursor."),
    ("gateway_tokens", False, "If requests did not become fewer, the engine is slower: see GPU clock, temperature and layers."),
    ("pressure_memory", True, "Programs wait for memory: unload models before the kernel ends a process."),
    ("pressure_io", True, "Programs wait for the disk: see who reads and writes on the live page."),
    ("pressure_cpu", True, "Programs wait for a core: fewer threads per model or fewer parallel requests."),
    ("cpu_", True, "See the processes on the live page; if it is meant to be so, dismiss this and say why."),
    ("load", True, "See the processes on the live page; if it is meant to be so, dismiss this and say why."),
    ("disk_util", True, "See who reads and writes; a model that is loaded again and again wants a longer keep-alive."),
    ("engine_models", True, "More models stay loaded than were: a shorter keep-alive frees their memory."),
    ("engine_up", False, "See the engine's log; the alert Engine down tells the next time."),
)  # fmt: skip
OTHERWISE = "See what else changed at that time: the events and the other series of the same hours."


def sentence(kind: str, series: str, facts: Mapping[str, Any]) -> str:
    """Without the name of the series, which stands before it."""
    unit = unit_of(split_series(series)[0])

    def shown(value: float) -> str:
        return format_value(value, unit)

    if kind == Kind.ANOMALY:
        side = "above" if facts["z"] > 0 else "below"
        when = "" if facts["alone"] else f" {STATES[facts['state']]}"
        hour = (
            " at this hour"
            if facts["by_hour"] == 24
            else " at this hour of the week"
            if facts["by_hour"]
            else ""
        )
        return (
            f"{shown(facts['value'])} over 3 min, {side} the {shown(facts['expected'])} that are usual{hour}{when}"
            f" (z {facts['z']:+.1f})"
        )
    if kind == Kind.FORECAST:
        if facts["in_h"] <= 0:
            return f"is at its limit of {shown(facts['limit'])}"
        ends = span(facts["soonest_h"]), span(facts["latest_h"])
        return f"reaches {shown(facts['limit'])} in {span(facts['in_h'])}{_between(*ends, ', ', '')}"
    if kind == Kind.TREND:
        way = "rises" if facts["slope"] > 0 else "falls"
        low, high = sorted((abs(facts["low"]) * 24, abs(facts["high"]) * 24))
        slope = shown(abs(facts["slope"]) * 24)
        between = _between(shown(low), shown(high), " (", ")")
        return f"{way} by {slope} a day{between}, {shown(abs(facts['change']))} over {span(facts['hours'])}"
    if kind == Kind.CHANGE:
        way = "rose" if facts["after"] > facts["before"] else "fell"
        return f"{way} from {shown(facts['before'])} to {shown(facts['after'])} and stayed there"
    ratio = facts["ratio"]
    times = f"{ratio:.1f} times as much" if ratio >= 1 else f"{1 / ratio:.1f} times less"
    than = "as" if ratio >= 1 else "than"
    shares = ""
    if facts["now"] is not None and facts["before"] is not None:
        shares = f": {facts['now']:.1f} % of its level, {facts['before']:.1f} % then"
    return f"scatters {times} within the hour {than} a week earlier{shares}"


def _between(low: str, high: str, before: str, after: str) -> str:
    """Nothing where both ends read the same."""
    return "" if low == high else f"{before}between {low} and {high}{after}"


def advice(kind: str, series: str, size: float) -> str:
    metric = split_series(series)[0]
    if kind == Kind.VOLATILITY:
        return (
            "What comes in bursts is not seen in means: set rules on a maximum or a percentile."
            if size > 0
            else "It became steadier: limits may be set closer."
        )
    return next(
        (text for start, up, text in ADVICE if metric.startswith(start) and up is (size > 0)), OTHERWISE
    )


def method(kind: str, facts: Mapping[str, Any]) -> str:
    """How it was found, with n and window."""
    if kind == Kind.ANOMALY:
        return (
            f"A window of 3 min against {facts['n']:,} such windows of the past ({span(facts['weeks'] * 168)} of it);"
            " the tail of their distances is extrapolated by a generalized Pareto distribution;"
            " 80 % of its 10 s means lie on that side."
        )
    if kind in (Kind.FORECAST, Kind.TREND):
        return (
            f"Theil-Sen slope of {facts['n']} points over {span(facts['hours'])}, its 95 % interval widened for"
            " neighbours that are alike; both halves of the window go that way."
        )
    if kind == Kind.CHANGE:
        return (
            f"Pettitt's rank test for one change among {facts['n']} hourly means, hours of the day taken out."
        )
    return f"Sign test over {facts['n']} pairs of hours, the last day's and those of a week earlier."


def span(hours: float) -> str:
    """Two figures are all that it knows: `9 d`, `2 d 4 h`, `45 min`."""
    if hours >= 5 * 24:
        return f"{hours / 24:.0f} d"
    return duration(round(hours) * 3600 if hours >= 5 else round(hours * 60) * 60)


def chance(p: float) -> str:
    """`p = 0.004`, `p = 2e-07`, `p < 1e-12`: beyond that the digits say nothing."""
    if p < 1e-12:
        return "p < 1e-12"
    return f"p = {p:.0e}" if p < 0.001 else f"p = {p:.3f}"
