"""What a run came to: per model the summary over its rounds, and each model compared with the first.

Worked out once, when the run is over: the bootstraps behind the intervals take a second or so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from django.conf import settings

from benchmarks import selectors
from benchmarks.engines import is_elsewhere
from benchmarks.load.result import Result
from benchmarks.models import Run
from benchmarks.parameters import Parameters
from benchmarks.prices import price_of
from benchmarks.statistics.compare import decide
from benchmarks.statistics.energy import Energy
from benchmarks.statistics.metrics import METRICS
from benchmarks.statistics.rounds import RoundSummary
from benchmarks.statistics.summary import LEAST, Summary, summarise_rounds
from benchmarks.statistics.verdicts import Decision
from monitoring.selectors import query, series_names

# One decision is made on these, as far as they apply; nothing may be gained at the price of errors.
DECISIVE = (
    *("output_tokens_per_s", "goodput_per_s", "ttft_p50_ms", "ttft_p95_ms", "total_p50_ms", "total_p95_ms"),
    *("tpot_p50_ms", "decode_tokens_per_s", "prefill_tokens_per_s"),
)
GUARDRAILS = ("error_rate",)
POWER = "gpu_power_w"
IDLE_S, IDLE_LEAST = 60, 10
HOURS_PER_YEAR = 24 * 365.25


@dataclass(frozen=True)
class Outcome:
    summaries: dict[str, Summary]  # by model, in the order of the run
    decisions: dict[str, Decision]  # by model, against the first one

    def as_json(self) -> dict[str, Any]:
        return {
            "summaries": {model: each.model_dump(mode="json") for model, each in self.summaries.items()},
            "decisions": {model: each.model_dump(mode="json") for model, each in self.decisions.items()},
        }

    @classmethod
    def of(cls, run: Run) -> "Outcome":
        """As it was stored, in the order of the run (jsonb keeps none); empty while the run is not over."""
        stored = run.outcome or {"summaries": {}, "decisions": {}}
        summaries, decisions = stored["summaries"], stored["decisions"]
        return cls(
            {name: Summary.model_validate(summaries[name]) for name in run.model_names if name in summaries},
            {name: Decision.model_validate(decisions[name]) for name in run.model_names if name in decisions},
        )

    def headlines(self) -> dict[str, dict[str, float]]:
        """{model: {metric: value}} of what is known."""
        return {
            model: {key: value.value for key, value in summary.values.items() if value.value is not None}
            for model, summary in self.summaries.items()
        }


def work_out(run: Run, alive: Callable[[], object] = lambda: None) -> Outcome:
    """From the raw results. `alive` is called between the models, for a lease that has to be kept."""
    slo = Parameters.model_validate(run.parameters).slo
    energy = energy_of(run)
    rows = selectors.measurements(run)
    rounds = {
        model: [summary_of(row.summary) for row in rows if row.model == model] for model in run.model_names
    }
    summaries, decisions = {}, {}
    first = next((model for model in run.model_names if rounds[model]), None)
    for model in run.model_names:
        results = [Result.model_validate(raw) for _, raw in selectors.raw_results(run, model)]
        if results:
            summaries[model] = summarise_rounds(results, slo, energy or price_of(run, model, results))
            alive()
        if first is not None and rounds[model] and model != first:
            decisions[model] = decide_on(rounds[first], rounds[model])
            alive()
    return Outcome(summaries, decisions)


def summary_of(stored: dict[str, Any]) -> RoundSummary:
    return RoundSummary.model_validate(stored)


def decide_on(
    a: list[RoundSummary], b: list[RoundSummary], history: list[list[RoundSummary]] | None = None
) -> Decision:
    """Of B with A, on the metrics that both sides have."""
    metrics = [key for key in DECISIVE if _applies(key, a) and _applies(key, b)]
    return decide(a, b, metrics, GUARDRAILS, history or [])


def _applies(key: str, rounds: list[RoundSummary]) -> bool:
    metric = METRICS[key]
    if metric.sample is not None and metric.quantile in LEAST:
        return sum(len(each.samples.get(metric.sample, ())) for each in rounds) >= LEAST[metric.quantile]
    return any(key in each.values for each in rounds)


def energy_of(run: Run) -> Energy | None:
    """Power of all GPUs together as the collector recorded it; None where there is none, or the engine is elsewhere.

    Idle power: the median of the last minute before the run, of the seconds in which the gateway passed nothing."""
    if run.started_at is None or is_elsewhere(run.parameters["engine"]):
        return None
    names = [name for name in series_names(run.host) if name.partition("{")[0] == POWER]
    if not names:
        return None
    start = int(run.started_at.timestamp())
    end = int((run.ended_at or run.heartbeat_at or run.started_at).timestamp()) + 2
    answer = query(
        run.host, [*names, "gateway_running"], start - IDLE_S, end, points=end - start + IDLE_S, tier=1
    )
    watts = np.sum([answer.series[name].mean for name in names], axis=0)
    at = answer.start + np.arange(len(watts))
    known = ~np.isnan(watts)
    idle = known & (at < start) & (answer.series["gateway_running"].mean == 0)
    power = cast(
        "list[tuple[float, float]]", list(zip(at[known].tolist(), watts[known].tolist(), strict=True))
    )
    costs = settings.CONFIG.benchmarking
    return Energy(
        power=power,
        idle_w=float(np.median(watts[idle])) if idle.sum() >= IDLE_LEAST else None,
        tariff_per_kwh=costs.electricity_price_per_kwh,
        hardware_per_hour=costs.hardware_price / (costs.hardware_lifetime_years * HOURS_PER_YEAR),
    )
