"""Rounds: the repetitions of a run, in which the models or configurations that it compares take turns.

A run has 6 rounds of 10 requests or more. In each round every arm is measured once; the order turns round from one round to
the next (A B, B A, A B, ...), so that a machine that gets slower or warmer hurts all arms alike."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.load.plan import Slo
from benchmarks.load.result import Result
from benchmarks.statistics.metrics import METRICS
from benchmarks.statistics.samples import sample
from benchmarks.statistics.timeline import tokens_in_window

ROUNDS = 6
TAIL_SAMPLES = {each.sample for each in METRICS.values() if each.sample and (each.quantile or 0) > 0.5}

Arm = TypeVar("Arm")


def take_turns(arms: Sequence[Arm], rounds: int = ROUNDS) -> list[tuple[int, Arm]]:
    """(round, arm) in the order to measure in: A B B A A B ... for two arms."""
    return [
        (number, arm)
        for number in range(rounds)
        for arm in (arms if number % 2 == 0 else list(reversed(arms)))
    ]


class RoundSummary(BaseModel):
    """One round of one arm, as a comparison needs it. `run` names the run: rounds of two arms with the same run and number
    are a pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    round: int
    n_ok: int
    values: dict[str, float]  # by key of METRICS: medians and rates
    samples: dict[str, list[float]]  # by key of SAMPLES: the requests' own values, for p95 and p99
    counts: dict[str, tuple[int, int]]  # of error_rate and attainment: (how many, of how many)


def summarise_round(result: Result, *, run: str, round_: int, slo: Slo | None = None) -> RoundSummary:
    """`slo`: instead of the plan's."""
    limits = slo or result.plan.slo
    sampled = sample(result, limits)
    values = {
        key: float(np.quantile(sampled.values[metric.sample], 0.5))
        for key, metric in METRICS.items()
        if metric.sample and metric.quantile == 0.5 and len(sampled.values.get(metric.sample, ()))
    }
    if result.window is not None and result.window.seconds:
        seconds = result.window.seconds
        values["requests_per_s"] = sampled.n_ended / seconds
        if tokens := tokens_in_window(result):
            values["output_tokens_per_s"] = tokens / seconds
        if limits.given:
            values["goodput_per_s"] = sampled.n_good / seconds
    n = sampled.n_ok + sampled.n_failed
    counts = {"error_rate": (sampled.n_failed, n)}
    if limits.given:
        counts["attainment"] = (sampled.n_good, n)
    return RoundSummary(
        run=run,
        round=round_,
        n_ok=sampled.n_ok,
        values=values,
        samples={key: sampled.values[key].tolist() for key in sorted(TAIL_SAMPLES) if key in sampled.values},
        counts=counts,
    )
