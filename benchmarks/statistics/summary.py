"""Every metric of one or more rounds, each with the number of values behind it, and a reason where there is none."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.load.plan import Slo
from benchmarks.load.result import Result, Status
from benchmarks.statistics import energy as energies
from benchmarks.statistics.energy import Energy
from benchmarks.statistics.intervals import quantile_interval, rate_interval, wilson
from benchmarks.statistics.metrics import METRICS, Metric
from benchmarks.statistics.samples import Floats, Sampled, measured_of, median, sample
from benchmarks.statistics.strata import Stratum, strata_of
from benchmarks.statistics.timeline import Timeline, timeline, tokens_in_window
from benchmarks.statistics.validity import invalid_reason, warnings_of

LEAST = {0.95: 100, 0.99: 1000}  # values that a quantile needs
N_GRID = 101
NO_INTERVAL = {"gap_ms", "schedule_lag_ms"}  # so many values, or the harness itself


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(_Frozen):
    """`n`: how many values, requests or tokens it comes from. `low`, `high`: interval at 95 %, where one can be given.
    `reason`: why there is no value."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class Distribution(_Frozen):
    """Values at the quantiles `q`, both ascending; as many points as there are values, 101 at most."""

    n: int
    q: list[float]
    values: list[float]


class Summary(_Frozen):
    values: dict[str, Value]  # every key of METRICS
    n_measured: int  # requests of the window, failed ones included
    n_errors: int
    errors: dict[str, int]  # by status
    error_examples: dict[str, str]  # the first sentence of each status
    window_s: float
    tokens: float  # inside the window
    n_prompt_median: float | None
    n_tokens_median: float | None
    distributions: dict[str, Distribution]  # by key of SAMPLES
    strata: list[Stratum]  # by thirds of the answer's length; empty where all have one length
    timeline: Timeline
    # What measuring cost, in the worst round; None in summaries that are older than this.
    harness_cpu_share: float | None = None  # of one core
    harness_lag_p99_ms: float | None = None
    complete: bool
    invalid_reason: str | None  # the numbers must not be used
    warnings: list[str]
    notes: list[str]


def summarise(result: Result, slo: Slo | None = None, energy: Energy | None = None) -> Summary:
    """Of one round. `slo`: instead of the plan's."""
    return summarise_rounds([result], slo, energy)


def summarise_rounds(
    results: Sequence[Result], slo: Slo | None = None, energy: Energy | None = None
) -> Summary:
    """Of the rounds of one configuration together: requests pooled, rates over the sum of the windows."""
    assert results
    limits = slo or results[0].plan.slo
    rounds = [sample(each, limits) for each in results]
    pooled = {
        key: np.concatenate([each.values.get(key, np.empty(0)) for each in rounds]) for key in _keys(rounds)
    }
    values = {
        key: _quantile(metric, rounds) if metric.sample else _none("Not measured.")
        for key, metric in METRICS.items()
    }
    tokens = [tokens_in_window(each) for each in results]
    seconds = [each.window.seconds if each.window else 0.0 for each in results]
    values |= _rates(rounds, tokens, seconds, limits.given)
    values |= _energy(energy, results, sum(tokens), sum(seconds))
    statuses, examples = _errors(results)
    return Summary(
        values=values,
        n_measured=sum(each.n_ok + each.n_failed for each in rounds),
        n_errors=sum(each.n_failed for each in rounds),
        errors=statuses,
        error_examples=examples,
        window_s=sum(seconds),
        tokens=sum(tokens),
        n_prompt_median=median([n for each in results for n in measured_of(each, each.requests.n_prompt)]),
        n_tokens_median=median([n for each in results for n in measured_of(each, each.requests.n_tokens)]),
        distributions={key: _distribution(each) for key, each in pooled.items() if len(each)},
        strata=strata_of(results),
        timeline=timeline(list(results)),
        harness_cpu_share=max(each.harness.cpu_share for each in results),
        harness_lag_p99_ms=max(
            (each.harness.lag_p99_ms for each in results if each.harness.lag_p99_ms is not None), default=None
        ),
        complete=all(each.complete for each in results),
        invalid_reason=invalid_reason(results, rounds, pooled),
        warnings=warnings_of(results),
        notes=list(dict.fromkeys(note for each in results for note in each.notes)),
    )


def _keys(rounds: Sequence[Sampled]) -> list[str]:
    return list(dict.fromkeys(key for each in rounds for key in each.values))


def _none(reason: str, n: int = 0) -> Value:
    return Value(value=None, n=n, reason=reason)


def _quantile(metric: Metric, rounds: Sequence[Sampled]) -> Value:
    assert metric.sample is not None
    assert metric.quantile is not None
    filled = [each.values[metric.sample] for each in rounds if len(each.values.get(metric.sample, ()))]
    n = sum(len(each) for each in filled)
    if not n:
        return _none(rounds[0].reasons.get(metric.sample, "Nothing was measured."))
    # The schedule lag is a guard, not an estimate: it speaks at any number.
    least = 1 if metric.sample == "schedule_lag_ms" else LEAST.get(metric.quantile, 1)
    if n < least:
        return _none(f"Needs {least} values; there are {n}.", n)
    value = float(np.quantile(np.concatenate(filled), metric.quantile))
    interval = None if metric.sample in NO_INTERVAL else quantile_interval(filled, metric.quantile)
    low, high = interval or (None, None)
    return Value(value=value, n=n, low=low, high=high)


def _rates(
    rounds: Sequence[Sampled], tokens: Sequence[float], seconds: Sequence[float], has_slo: bool
) -> dict[str, Value]:
    n_ok, n_failed = sum(each.n_ok for each in rounds), sum(each.n_failed for each in rounds)
    n_good, n = sum(each.n_good for each in rounds), n_ok + n_failed
    no_window, no_slo = "No request got past the warm-up.", "No SLO was given."
    uncounted = "The server does not count the tokens of its answers."

    def rate(counts: Sequence[float]) -> Value:
        if not sum(seconds):
            return _none(no_window)
        each_round = [count / span for count, span in zip(counts, seconds, strict=True) if span]
        low, high = rate_interval(each_round) or (None, None)
        return Value(value=sum(counts) / sum(seconds), n=round(sum(counts)), low=low, high=high)

    def share(k: int) -> Value:
        if not n:
            return _none(no_window)
        low, high = wilson(k, n)
        return Value(value=k / n, n=n, low=low, high=high)

    return {
        "output_tokens_per_s": rate(tokens) if sum(tokens) or not n_ok else _none(uncounted),
        "requests_per_s": rate([each.n_ended for each in rounds]),
        "goodput_per_s": rate([each.n_good for each in rounds]) if has_slo else _none(no_slo),
        "attainment": share(n_good) if has_slo else _none(no_slo),
        "error_rate": share(n_failed),
    }


def _energy(
    energy: Energy | None, results: Sequence[Result], tokens: float, seconds: float
) -> dict[str, Value]:
    spent = energies.joules(energy, results) if energy else None
    no_power = _none("No GPU power was read over the whole window.")
    values = dict.fromkeys(("joules_per_token", "net_joules_per_token"), no_power)
    values["cost_per_mtok"] = _none(energy.no_cost if energy else energies.NO_COST)
    if energy is None or not tokens:
        return values
    n = round(tokens)
    if spent is not None:
        values["joules_per_token"] = Value(value=spent / tokens, n=n)
        values["net_joules_per_token"] = (
            _none("The idle power is not known.", n)
            if energy.idle_w is None
            else Value(value=(spent - energy.idle_w * seconds) / tokens, n=n)
        )
    cost = energies.cost_per_mtok(energy, spent, seconds, tokens)
    if cost is not None:
        values["cost_per_mtok"] = Value(value=cost, n=n)
    return values


def _errors(results: Sequence[Result]) -> tuple[dict[str, int], dict[str, str]]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for result in results:
        rows = result.requests
        for status, error, measured in zip(rows.status, rows.error, rows.measured, strict=True):
            if measured and status is not Status.OK:
                counts[status.value] += 1
                examples.setdefault(status.value, error or "")
    return dict(counts.most_common()), examples


def _distribution(values: Floats) -> Distribution:
    q = np.linspace(0, 1, min(max(len(values), 2), N_GRID))
    return Distribution(n=len(values), q=q.tolist(), values=np.quantile(values, q).tolist())
