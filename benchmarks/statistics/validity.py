"""Whether the harness itself spoilt what it measured."""

from collections.abc import Sequence

import numpy as np

from benchmarks.load.result import Result
from benchmarks.statistics.samples import Floats, Sampled, measured_of, median

MAX_SCHEDULE_LAG_MS = 50.0
MAX_LOOP_LAG_MS = 50.0
MAX_CPU_SHARE = 0.95


def invalid_reason(
    results: Sequence[Result], rounds: Sequence[Sampled], pooled: dict[str, Floats]
) -> str | None:
    if not sum(each.n_ok for each in rounds):
        return "No request of the window ended well."
    lag = float(np.quantile(pooled["schedule_lag_ms"], 0.99))
    if lag > MAX_SCHEDULE_LAG_MS:
        return f"The load generator sent late: schedule lag p99 {lag:.0f} ms, {MAX_SCHEDULE_LAG_MS:g} ms are allowed."
    share = max(each.harness.cpu_share for each in results)
    if share > MAX_CPU_SHARE:
        return f"The load generator itself was the bottleneck: it used {share:.0%} of a core."
    return None


def warnings_of(results: Sequence[Result]) -> list[str]:
    warnings = []
    lag = max((each.harness.lag_p99_ms or 0.0 for each in results), default=0.0)
    if lag > MAX_LOOP_LAG_MS:
        warnings.append(
            f"The load generator had to wait for a processor: its loop lag p99 was {lag:.0f} ms, so times may be too long."
        )
    wanted = results[0].plan.output_tokens
    if wanted:
        reasons = [reason for each in results for reason in measured_of(each, each.requests.done_reason)]
        early = sum(reason != "length" for reason in reasons)
        if early:
            warnings.append(
                f"{early} of {len(reasons)} answers ended before {wanted} tokens; end to end counts the others only."
            )
    wanted = results[0].plan.prompt_tokens
    had = median([n for each in results for n in measured_of(each, each.requests.n_prompt)])
    if wanted and had and abs(had / wanted - 1) > 0.1:
        warnings.append(f"Prompts had {had:.0f} tokens in the median instead of {wanted}.")
    return warnings
