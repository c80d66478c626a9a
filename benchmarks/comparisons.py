"""Two sides compared: round against round, with the interval on each ratio and one verdict."""

from dataclasses import dataclass
from typing import Any

from benchmarks import selectors, services
from benchmarks.figures import ratio, ratio_interval, shown, text_table
from benchmarks.fingerprint import differences
from benchmarks.models import Run
from benchmarks.outcome import decide_on, summary_of
from benchmarks.statistics.metrics import METRICS
from benchmarks.statistics.rounds import RoundSummary
from benchmarks.statistics.summary import Summary
from benchmarks.statistics.verdicts import Comparison, Decision

# Parameters that change what is measured.
DECISIVE = (
    *("kind", "workload", "prompt_tokens", "output_tokens", "num_predict", "concurrency", "rate_per_s"),
    *("think_time_s", "n_requests", "slo", "seed"),
)
TONES = {"better": "ok", "worse": "crit"}
MOST_EARLIER = 10


@dataclass(frozen=True)
class Side:
    """One model of one run."""

    run: Run
    model: str
    rounds: list[RoundSummary]
    summary: Summary

    @property
    def value(self) -> str:
        """What `find_side` finds it by."""
        return f"{self.run.pk}/{self.model}"

    @property
    def label(self) -> str:
        return f"run {self.run.pk}, {self.model}"


@dataclass(frozen=True)
class Line:
    key: str
    label: str
    formula: str
    a: str
    b: str
    ratio: str
    interval: str
    verdict: str
    tone: str
    why: str


@dataclass(frozen=True)
class SideBySide:
    a: Side
    b: Side
    decision: Decision
    lines: list[Line]
    warnings: list[str]

    @property
    def verdict(self) -> str:
        return {"better": "B is better", "worse": "B is worse"}.get(
            self.decision.verdict, "No difference shown"
        )

    @property
    def tone(self) -> str:
        return TONES.get(self.decision.verdict, "")

    @property
    def basis(self) -> str:
        paired = "paired, since they took turns" if self.a.run == self.b.run else "of different runs"
        return (
            f"{len(self.a.rounds)} rounds of A and {len(self.b.rounds)} of B, {paired}. {self.decision.why}"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "a": {"run": self.a.run.pk, "model": self.a.model, "rounds": len(self.a.rounds)},
            "b": {"run": self.b.run.pk, "model": self.b.model, "rounds": len(self.b.rounds)},
            "warnings": self.warnings,
            **self.decision.model_dump(mode="json"),
        }

    def as_text(self) -> str:
        table = [(line.label, line.a, line.b, line.ratio, line.interval, line.verdict) for line in self.lines]
        return "\n".join(
            [
                f"A: {self.a.label}",
                f"B: {self.b.label}",
                *text_table([("", "A", "B", "B / A", "95 %", "verdict"), *table]),
                f"{self.verdict}: {self.basis}",
                *(f"Note: {warning}" for warning in self.warnings),
            ]
        )


def find_side(asked: str) -> Side | None:
    """`12` (the run's first model) or `12/llama3:8b`; None when there is no such run with results."""
    pk, _, model = asked.strip().partition("/")
    run = Run.objects.filter(pk=int(pk)).first() if pk.isdecimal() and len(pk) < 19 else None
    if run is None or not run.is_over:
        return None
    summaries = services.sum_up(run).summaries
    model = model or next(iter(summaries), "")
    if model not in summaries:
        return None
    return Side(run, model, _rounds(run, model), summaries[model])


def _rounds(run: Run, model: str) -> list[RoundSummary]:
    return [summary_of(row.summary) for row in selectors.measurements(run) if row.model == model]


def comparison_choices(*chosen: Side | None) -> list[tuple[str, str]]:
    """(value of `find_side`, label) of every model of the newest runs with results, and of the chosen sides."""
    runs = {run.pk: run for run in selectors.comparable_runs()}
    runs |= {side.run.pk: side.run for side in chosen if side is not None}
    return [
        (f"{run.pk}/{model}", f"{run.pk}: {model}, {run.kind}" + (" (baseline)" if run.is_baseline else ""))
        for run in runs.values()
        for model in run.model_names
        if model in run.figures
    ]


def compare_sides(a: Side, b: Side) -> SideBySide:
    history = [] if a.run == b.run else [_rounds(run, a.model) for run in _earlier(a, b)]
    decision = decide_on(a.rounds, b.rounds, history)
    lines = [_line(each, a, b) for each in (*decision.comparisons, *decision.guardrails)]
    return SideBySide(a, b, decision, lines, _warnings(a, b))


def _earlier(a: Side, b: Side) -> list[Run]:
    """Runs of A's configuration that were measured under its circumstances: another model under the same name, another engine
    or driver would pass for the noise of the machine."""
    here = a.run.fingerprint
    alike = [
        run
        for run in selectors.history(a.run, b.run)
        if not differences(here, run.fingerprint) and here.get("models") == run.fingerprint.get("models")
    ]
    return alike[:MOST_EARLIER]


def _line(found: Comparison, a: Side, b: Side) -> Line:
    metric = METRICS[found.metric]
    return Line(
        metric.key,
        metric.label,
        metric.formula,
        shown(a.summary.values[metric.key].value, metric.key),
        shown(b.summary.values[metric.key].value, metric.key),
        ratio(found.ratio),
        ratio_interval(found.low, found.high),
        found.verdict,
        TONES.get(found.verdict, ""),
        found.why,
    )


def _warnings(a: Side, b: Side) -> list[str]:
    """What makes the comparison unfair."""
    invalid = [
        f"{name} is not valid: {side.summary.invalid_reason}"
        for name, side in (("A", a), ("B", b))
        if side.summary.invalid_reason
    ]
    circumstances = [
        f"Measured under other circumstances: {text}."
        for text in differences(a.run.fingerprint, b.run.fingerprint)
    ]
    asked_a, asked_b = a.run.parameters, b.run.parameters
    asked = [
        f"Asked for otherwise: {name.replace('_', ' ')} {asked_a.get(name)} / {asked_b.get(name)}."
        for name in DECISIVE
        if asked_a.get(name) != asked_b.get(name)
    ]
    return [*invalid, *circumstances, *asked]
