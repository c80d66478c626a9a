"""What a cloud that was added asks for the requests of a run, by its list price."""

from collections.abc import Sequence
from decimal import Decimal

from benchmarks.load.result import Result, Status
from benchmarks.models import Run
from benchmarks.statistics.energy import Energy
from inference.engines.costs import cost_of
from inference.engines.selectors import clouds

UNKNOWN = "Nobody knows what this cloud asks for the model: its page of /engines/ says whose prices count."


def price_of(run: Run, model: str, results: Sequence[Result]) -> Energy | None:
    """Per million tokens of answers, what their prompts cost included; None: the engine is no cloud that was added."""
    cloud = next((each for each in clouds() if each.name == run.parameters["engine"]), None)
    if cloud is None:
        return None
    total, n_tokens = Decimal(0), 0
    for result in results:
        rows = result.requests
        columns = (rows.status, rows.measured, rows.n_prompt, rows.n_tokens, rows.n_cached)
        for status, measured, n_prompt, n, n_cached in zip(*columns, strict=True):
            if not measured or status is not Status.OK:
                continue
            # One by one: the price of a token may rise with the length of its prompt.
            cost = (
                None
                if n_prompt is None or n is None
                else cost_of(
                    cloud,
                    model,
                    prompt_tokens=n_prompt,
                    output_tokens=n,
                    cached_tokens=n_cached or 0,
                    at=result.started_at,
                )
            )
            if cost is None or n is None:
                return Energy(no_cost=UNKNOWN)
            total, n_tokens = total + cost, n_tokens + n
    return Energy(price_per_mtok=float(total) / n_tokens * 1e6) if n_tokens else Energy(no_cost=UNKNOWN)
