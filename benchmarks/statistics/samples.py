"""From the columns of a result to one array per quantity: measured requests that ended well, None where it does not apply."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.plan import Slo
from benchmarks.load.result import Result, Status

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Each = TypeVar("Each")


def column(values: list[Any]) -> Floats:
    """None becomes NaN."""
    return np.array([np.nan if each is None else each for each in values], np.float64)


def measured_of(result: Result, values: Sequence[Each | None]) -> list[Each]:
    """Of a column: what is known of the window's requests."""
    return [
        each
        for each, wanted in zip(values, result.requests.measured, strict=True)
        if wanted and each is not None
    ]


def median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


@dataclass(frozen=True)
class Sampled:
    """`values`: one float64 array per key of `metrics.SAMPLES`, of any length; `reasons`: why a key has none."""

    values: dict[str, Floats]
    reasons: dict[str, str]
    n_ok: int
    n_failed: int
    n_good: int  # kept every limit of the SLO; 0 without one
    n_ended: int  # ended well inside the window, whenever they were due


def sample(result: Result, slo: Slo) -> Sampled:
    rows, open_loop = result.requests, result.plan.open_loop
    ok = np.array([each is Status.OK for each in rows.status], bool)
    measured = np.array(rows.measured, bool)
    counted = ok & measured
    scheduled, sent = column(rows.scheduled_ms), column(rows.sent_ms)
    first, last, done = column(rows.first_ms), column(rows.last_ms), column(rows.done_ms)
    n, n_prompt, cached = column(rows.n_tokens), column(rows.n_prompt), column(rows.n_cached)
    evaluated, prompted = column(rows.eval_duration_ms), column(rows.prompt_duration_ms)
    since = scheduled if open_loop else sent
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(n >= 2, (last - first) / (n - 1), np.nan)
        decode = np.where(evaluated > 0, n / evaluated * 1000, np.nan)
        fresh = n_prompt - np.where(np.isnan(cached) & result.plan.nonce, 0.0, cached)
        prefill = np.where((prompted > 0) & (fresh > 0), fresh / prompted * 1000, np.nan)
    whole = done - since
    full_length = np.array([each == "length" for each in rows.done_reason], bool)
    overhead = column(rows.total_duration_ms) - column(rows.load_duration_ms) - prompted - evaluated
    per_request = {
        "ttft_ms": first - since,
        "answer_ttft_ms": column(rows.first_answer_ms) - since,
        "total_ms": np.where(full_length, whole, np.nan) if result.plan.output_tokens else whole,
        "tpot_ms": tpot,
        "decode_tokens_per_s": decode,
        "prefill_tokens_per_s": prefill,
        "overhead_ms": overhead,
    }
    if open_loop:
        per_request |= {"ttft_sent_ms": first - sent, "total_sent_ms": done - sent}
    values = {key: _finite(each[counted]) for key, each in per_request.items()}
    gaps = [gap for gaps, wanted in zip(rows.gaps_ms, counted, strict=True) if wanted for gap in gaps]
    values["gap_ms"] = np.array(gaps, np.float64)
    values["schedule_lag_ms"] = _finite((sent - scheduled)[measured])
    good = counted & _within(slo.ttft_ms, first - since) & _within(slo.total_ms, whole)
    good &= np.isnan(tpot) | _within(slo.tpot_ms, tpot)  # an answer of one token has none
    n_failed = int(np.sum(measured & ~ok))
    n_ok, window = int(counted.sum()), result.window
    # An open loop measures what was due in the window; an engine that can't keep up answers it later.
    within = ok & (done > window.start_ms) & (done <= window.end_ms) if open_loop and window else counted
    return Sampled(
        values,
        _reasons(result, values),
        n_ok,
        n_failed,
        n_good=int(good.sum()) if slo.given else 0,
        n_ended=int(within.sum()),
    )


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _within(limit: float | None, values: Floats) -> Bools:
    return np.ones(len(values), bool) if limit is None else values <= limit


def _reasons(result: Result, values: dict[str, Floats]) -> dict[str, str]:
    """Why a quantity has no value, for those that have none."""
    told = "The server tells no durations of its own."
    reasons = {
        "ttft_sent_ms": "Requests were not sent by a schedule, so this is the TTFT.",
        "total_sent_ms": "Requests were not sent by a schedule, so this is end to end.",
        "tpot_ms": "No answer had two tokens or more, or the server does not count them.",
        "gap_ms": "No answer came in two chunks or more.",
        "decode_tokens_per_s": told,
        "overhead_ms": told,
        "prefill_tokens_per_s": told
        if not any(result.requests.prompt_duration_ms)
        else "The server does not tell how much of a prompt was cached, and the prompts had no number of their own.",
    }
    if result.plan.output_tokens:
        reasons["total_ms"] = f"No answer reached {result.plan.output_tokens} tokens."
    nothing = "No request of the window ended well."
    return {
        key: reasons.get(key, nothing) if any(result.requests.measured) else nothing
        for key in {*values, *reasons}
        if key not in values or not len(values[key])
    }
