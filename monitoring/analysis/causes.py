"""Why a model generates slower than usual: what was otherwise in the same minutes. No Django in here.

Nothing here proves a cause: it says what of a list of known ones was true then and is not usual, with its numbers, and what
of the list is not known on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from monitoring.alerts.series import format_value, split_series, unit_of
from monitoring.analysis.speed import MATTERS, Comparison, Loads, Mean, compare, mean_of
from monitoring.store.packing import Floats

SPEED = "model_decode_tokens_per_s"
OPEN = 0.1  # an interval that reaches farther tells nothing
MOST_SAID = 3  # causes in the sentence; the table has all
MIB = 2**20


@dataclass(frozen=True)
class Factor:
    """What may slow a model. `text` of what was found takes {now} and {before}; `least`: it has to have moved by so much, in
    its unit, and by `share` of what it was; `side` -1: it slows when it falls. `of_model`: a series of the model's own.
    `after`: a consequence of these, said only where none of them was found."""

    name: str
    metric: str
    text: str
    least: float
    share: float = 0.0
    side: int = 1
    of_model: bool = False
    after: tuple[str, ...] = ()


SHARE = " {now} of the interval ({before} before)"
HELD = ("power cap", "heat", "heat (hardware)", "hardware slowdown", "power brake")
FACTORS = (
    Factor("power cap", "gpu_held_power_cap_percent", "power-capped" + SHARE, 5),
    Factor("heat", "gpu_held_software_thermal_percent", "slowed by heat" + SHARE, 2),
    Factor("heat (hardware)", "gpu_held_hardware_thermal_percent", "slowed by the hardware for heat" + SHARE, 1),
    Factor("hardware slowdown", "gpu_held_hardware_slowdown_percent", "slowed by the hardware" + SHARE, 1),
    Factor("power brake", "gpu_held_power_brake_percent", "power brake" + SHARE, 1),
    Factor("power limit", "gpu_power_limit_w", "power limit {now} (was {before})", 5, 0.02, -1),
    Factor("GPU clock", "gpu_clock_mhz", "GPU clock {now} (was {before})", 30, 0.03, -1, after=(*HELD, "power limit")),
    Factor("model on the CPU", "model_cpu_share_percent", "{now} of the model on the CPU (was {before})", 1, of_model=True),
    Factor("other processes", "cpu_others_percent", "other processes took {now} of the CPU (was {before})", 10),
    Factor("stolen CPU", "cpu_steal_percent", "the hypervisor gave {now} of the CPU to others (was {before})", 3),
    Factor("CPU clock", "cpu_frequency_mhz", "CPU clock {now} (was {before})", 100, 0.05, -1),
    Factor("memory pressure", "pressure_memory_full_percent", "everything waited for memory" + SHARE, 1),
    Factor("swap", "swap_in_bytes_per_s", "{now} came back from swap (was {before})", MIB),
    Factor("longer prompts", "model_prompt_tokens", "prompts of {now} tokens (were {before})", 100, 0.25, of_model=True),
    Factor("longer context", "model_context_tokens", "a context of {now} tokens (was {before})", 256, 0.1, of_model=True),
    Factor("reloads", "loads_per_h", "loaded {now} times an hour of work (was {before})", 1, 1.0),
)  # fmt: skip
METRICS = frozenset(factor.metric for factor in FACTORS)


@dataclass(frozen=True)
class Times:
    """One stretch of time in even points. `speed`: of the model, NaN where it generated nothing; `loads`: see
    `speed.load_classes`; `others`: series -> values, those of METRICS. `loads_per_h`: None where nobody knows."""

    speed: Floats
    loads: Loads
    others: Mapping[str, Floats]
    loads_per_h: float | None = None


@dataclass(frozen=True)
class Cause:
    """`strength`: how many times the least that counts it moved. `reach`: half the 95 % interval of `now`, and of `before`."""

    name: str
    text: str
    now: float
    before: float | None
    now_reach: float | None
    before_reach: float | None
    unit: str
    strength: float

    @property
    def now_text(self) -> str:
        return _with_reach(self.now, self.now_reach, self.unit)

    @property
    def before_text(self) -> str:
        return "unknown" if self.before is None else _with_reach(self.before, self.before_reach, self.unit)


@dataclass(frozen=True)
class Explanation:
    """`speed` is None where there is nothing to compare with under the same load. `seen`: the factors that were looked at;
    `unknown`: those that nothing is known of here."""

    model: str
    speed: Comparison | None
    causes: tuple[Cause, ...]
    seen: tuple[str, ...]
    unknown: tuple[str, ...]
    reference: str  # in words: `in the 7 days before`
    part: tuple[int, int] | None = None  # s since 1970: what of the time is meant; None: all of it

    @property
    def part_times(self) -> list[datetime]:
        """The ends of `part`, if it is one."""
        return [datetime.fromtimestamp(second, UTC) for second in self.part or ()]

    @property
    def is_slower(self) -> bool:
        return self.speed is not None and self.speed.high < 0 and self.speed.change <= -MATTERS

    @property
    def is_faster(self) -> bool:
        return self.speed is not None and self.speed.low > 0 and self.speed.change >= MATTERS

    @property
    def is_usual(self) -> bool:
        """No difference that would matter is left open."""
        return self.speed is not None and max(-self.speed.low, self.speed.high) <= OPEN

    @property
    def sentence(self) -> str:
        if self.speed is None:
            return f"nothing to compare with: too little was generated {self.reference} under the same load"
        speed = self.speed
        rates = f"{_rate(speed.now)} tokens/s, {_rate(speed.before)} {self.reference}"
        if not (self.is_slower or self.is_faster):
            told = (
                "as fast as usual"
                if self.is_usual
                else "too little was generated to tell whether it is slower"
            )
            return f"{told}: {rates} (difference {_range(speed.low, speed.high)})"
        if self.is_faster:
            return (
                f"{abs(speed.change):.0%} more tokens/s ({_range(speed.low, speed.high)}): {rates}".replace(
                    "%", " %"
                )
            )
        less = f"{-speed.change:.0%} fewer tokens/s".replace("%", " %")
        return f"{less}: {self.why}"

    @property
    def why(self) -> str:
        if self.causes:
            return "; ".join(each.text for each in self.causes[:MOST_SAID])
        if not self.seen:
            return "nothing is known of what could slow it"
        return f"no cause seen among: {', '.join(self.seen)}"

    @property
    def measured(self) -> str:
        """What the sentence rests on."""
        if self.speed is None:
            return ""
        speed = self.speed
        part = "" if speed.share > 0.995 else f", {speed.share:.0%} of this time".replace("%", " %")
        return (
            f"{_rate(speed.now)} tokens/s over {speed.n_now} points against {_rate(speed.before)} over {speed.n_before}"
            f" {self.reference}, at as many requests at once{part}; difference {_range(speed.low, speed.high)} (95 %)"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "Explanation":
        speed = data["speed"]
        return cls(
            model=data["model"],
            speed=None if speed is None else Comparison(**speed),
            causes=tuple(Cause(**each) for each in data["causes"]),
            seen=tuple(data["seen"]),
            unknown=tuple(data["unknown"]),
            reference=data["reference"],
            part=None if data["part"] is None else (data["part"][0], data["part"][1]),
        )


def part_of(times: Times, part: slice, loads_per_h: float | None) -> Times:
    others = {name: values[part] for name, values in times.others.items()}
    return Times(times.speed[part], times.loads[part], others, loads_per_h)


def rest_of(times: Times, part: slice, loads_per_h: float | None) -> Times:
    """All but the part."""
    others = {name: np.delete(values, part) for name, values in times.others.items()}
    return Times(np.delete(times.speed, part), np.delete(times.loads, part), others, loads_per_h)


def explain(model: str, now: Times, before: Times, reference: str) -> Explanation:
    """Causes are looked for only where it is slower for sure; they are of the minutes in which it generated."""
    speed = compare(now.speed, now.loads, before.speed, before.loads)
    bare = Explanation(model, speed, (), (), (), reference)
    if not bare.is_slower:
        return bare
    causes: list[tuple[Factor, Cause]] = []
    seen: list[str] = []
    unknown: list[str] = []
    for factor in FACTORS:
        pairs = _pairs(factor, model, now, before)
        (seen if pairs else unknown).append(factor.name)
        found = [cause for where, one, other in pairs if (cause := _cause(factor, where, one, other))]
        if found:
            causes.append((factor, max(found, key=lambda cause: cause.strength)))
    names = {factor.name for factor, _ in causes}
    kept = [cause for factor, cause in causes if not names & set(factor.after)]
    kept.sort(key=lambda cause: -cause.strength)
    return Explanation(model, speed, tuple(kept), tuple(seen), tuple(unknown), reference)


Pair = tuple[str, Mean, Mean | None]  # which device, now, before


def _pairs(factor: Factor, model: str, now: Times, before: Times) -> list[Pair]:
    """Of each device that has the factor's series now."""
    if factor.metric == "loads_per_h":
        if now.loads_per_h is None or before.loads_per_h is None:
            return []
        return [("", Mean(1, now.loads_per_h, 0, 1), Mean(1, before.loads_per_h, 0, 1))]
    found: list[Pair] = []
    for name, values in now.others.items():
        metric, labels = split_series(name)
        if metric != factor.metric or (factor.of_model and labels.get("model") != model):
            continue
        one = mean_of(values[np.isfinite(now.speed)])
        if one is None:
            continue
        past = before.others.get(name)
        other = None if past is None else mean_of(past[np.isfinite(before.speed)])
        found.append((f"GPU {labels['gpu']}" if "gpu" in labels else "", one, other))
    several = len(found) > 1
    return [(where if several else "", one, other) for where, one, other in found]


def _cause(factor: Factor, where: str, now: Mean, before: Mean | None) -> Cause | None:
    """None where it did not move far enough, or not for sure. A share of time whose past is unknown counts from nothing;
    anything else has to have moved."""
    is_share = factor.metric.startswith(("gpu_held", "pressure"))
    if before is None and not is_share:
        return None
    was = 0.0 if before is None else before.value
    least = max(factor.least, factor.share * abs(was))
    moved = factor.side * (now.value - was)
    unsure = now.reach if before is None else (now.reach**2 + before.reach**2) ** 0.5
    if moved < least or moved <= (0.0 if factor.metric == "loads_per_h" else unsure):
        return None
    unit = unit_of(factor.metric)
    text = factor.text.format(
        now=_shown(now.value, unit), before="unknown" if before is None else _shown(was, unit)
    )
    counted = now.n > 1
    return Cause(
        name=factor.name,
        text=f"{where}: {text}" if where else text,
        now=now.value,
        before=None if before is None else was,
        now_reach=now.reach if counted else None,
        before_reach=before.reach if counted and before is not None else None,
        unit=unit,
        strength=moved / least,
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _shown(value: float, unit: str) -> str:
    """No more figures than a mean of minutes knows."""
    if unit == "%":
        return f"{value:.0f} %" if value >= 9.95 or value < 0.05 else f"{value:.1f} %"
    if unit in ("", "MHz") and abs(value) >= 100:
        return f"{value:,.0f} {unit}".strip()
    return format_value(value, unit)


def _with_reach(value: float, reach: float | None, unit: str) -> str:
    shown = _shown(value, unit)
    return (
        shown
        if reach is None or reach < 0.005 * abs(value) or reach == 0
        else f"{shown} ± {_shown(reach, unit)}"
    )


def _range(low: float, high: float) -> str:
    digits = 0 if round(100 * low) != round(100 * high) else 1
    return f"{100 * low:+.{digits}f} to {100 * high:+.{digits}f} %".replace("-", "−")


def models_of(names: Sequence[str]) -> list[str]:
    """Models whose speed is recorded."""
    return sorted(
        {labels["model"] for name in names for metric, labels in [split_series(name)] if metric == SPEED}
    )
