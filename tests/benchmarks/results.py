"""Results with known numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.load.plan import Plan
from benchmarks.load.result import Harness, Requests, Result, Status, Window
from benchmarks.statistics.rounds import RoundSummary

STARTED_AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def row(sent: float, **changes: Any) -> dict[str, Any]:
    """A measured request: first token after 100 ms, ten more tokens 10 ms apart, done at once."""
    gaps = changes.pop("gaps_ms", [10.0] * 10)
    values: dict[str, Any] = {
        "prompt_id": "p",
        "stream": 0,
        "measured": True,
        "status": Status.OK,
        "error": None,
        "http_status": 200,
        "done_reason": "stop",
        "scheduled_ms": sent,
        "sent_ms": sent,
        "first_ms": sent + 100,
        "first_answer_ms": sent + 100,
        "last_ms": sent + 100 + sum(gaps),
        "done_ms": sent + 100 + sum(gaps),
        "n_tokens": len(gaps) + 1,
        "n_prompt": 50,
        "n_cached": None,
        "total_duration_ms": 210.0,
        "load_duration_ms": 1.0,
        "prompt_duration_ms": 50.0,
        "eval_duration_ms": 110.0,
        "gaps_ms": gaps,
    }
    return {**values, **changes}


def failed(sent: float, status: Status, error: str = "no", **changes: Any) -> dict[str, Any]:
    nothing = {key: None for key, value in row(0).items() if key.endswith("_ms") and key != "gaps_ms"}
    kept = {"scheduled_ms": sent, "sent_ms": sent, "done_ms": sent + 1, "status": status, "error": error}
    return row(sent, gaps_ms=[], **{**nothing, "n_tokens": None, "n_prompt": None, **kept, **changes})


def result(
    rows: Sequence[dict[str, Any]], *, window: tuple[float, float] | None = None, **changes: Any
) -> Result:
    """`changes`: of the plan, or of the harness by its names."""
    harness = {
        "cpu_s": 0.1,
        "cpu_share": 0.05,
        "lag_p50_ms": 0.5,
        "lag_p99_ms": 1.0,
        "rss_bytes": 5 * 10**7,
        "n_chunks": 100,
    }
    harness |= {key: changes.pop(key) for key in harness if key in changes}
    plan = {"url": "http://h", "model": "m", "n_requests": max(len(rows), 1), "workload": "mixed", **changes}
    ends = [each["done_ms"] for each in rows if each["done_ms"] is not None]
    start, end = window or (0.0, max(ends, default=0.0))
    return Result(
        plan=Plan(**plan),
        started_at=STARTED_AT,
        complete=True,
        notes=[],
        requests=Requests(**{key: [each[key] for each in rows] for key in Requests.model_fields}),
        window=Window(start_ms=start, end_ms=end),
        harness=Harness(**harness),
    )


class Machine:
    """A made-up machine with the noise of a real one, seeded.

    Runs differ by 2 % whatever is measured in them, rounds by 1 %, and the machine drifts by up to 5 % within a run; requests
    are lognormal, and one in twenty meets something that doubles it. `speed`: of the arm, 1 for both in an A/A run."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.n_runs = 0

    def run(self, speeds: Sequence[float], rounds: int = 6, n_requests: int = 10) -> list[list[RoundSummary]]:
        """Rounds of each arm, measured in turns."""
        self.n_runs += 1
        host = self.random.normal(0, 0.02)
        drift = self.random.uniform(-0.05, 0.05)
        found: list[list[RoundSummary]] = [[] for _ in speeds]
        for number in range(rounds):
            order = range(len(speeds)) if number % 2 == 0 else reversed(range(len(speeds)))
            for place, arm in enumerate(order):
                at = (number * len(speeds) + place) / (rounds * len(speeds))
                level = host + drift * at + self.random.normal(0, 0.01) - np.log(speeds[arm])
                found[arm].append(self._round(number, level, n_requests))
        return found

    def _round(self, number: int, level: float, n_requests: int) -> RoundSummary:
        slow = np.exp(level + self.random.normal(0, 0.1, n_requests))
        slow *= np.where(self.random.random(n_requests) < 0.05, 2, 1)
        samples = {"ttft_ms": 100 * slow, "total_ms": 200 * slow, "tpot_ms": 10 * slow}
        values = {
            f"{key.removesuffix('_ms')}_p50_ms": float(np.median(each)) for key, each in samples.items()
        }
        values["output_tokens_per_s"] = 11 * n_requests / float(np.sum(0.2 * slow))
        return RoundSummary(
            run=f"run {self.n_runs}",
            round=number,
            n_ok=n_requests,
            values=values,
            samples={key: each.tolist() for key, each in samples.items()},
            counts={"error_rate": (0, n_requests)},
        )
