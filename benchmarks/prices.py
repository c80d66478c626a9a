"""What a cloud that was added asks for the requests of a run, by its list price."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from benchmarks.load.result import Result, Status
from benchmarks.models import Run
from benchmarks.statistics.energy import Energy
from inference.engines.costs import Charge, cost_of
from inference.engines.selectors import clouds
from inference.models import Engine

UNKNOWN = "Nobody knows what this cloud asks for the model: its page of /engines/ says whose prices count."


def price_of(run: Run, model: str, results: Sequence[Result]) -> Energy | None:
    """Per million tokens of answers, what their prompts cost included; None: the engine is no cloud that was added."""
    cloud = cloud_of(run)
    if cloud is None:
        return None
    total, n_tokens = Decimal(0), 0
    for result in results:
        rows = result.requests
        costs = _costs(cloud, model, result)
        for status, measured, n, cost in zip(rows.status, rows.measured, rows.n_tokens, costs, strict=True):
            if not measured or status is not Status.OK:
                continue
            if cost is None or n is None:
                return Energy(no_cost=UNKNOWN)
            total, n_tokens = total + cost, n_tokens + n
    return Energy(price_per_mtok=float(total) / n_tokens * 1e6) if n_tokens else Energy(no_cost=UNKNOWN)


def charge_of(run: Run, model: str, result: Result) -> Charge | None:
    """What the cloud is to be paid for, measured or not; None: the engine is no cloud that was added."""
    cloud = cloud_of(run)
    if cloud is None:
        return None
    statuses, costs = result.requests.http_status, _costs(cloud, model, result)
    answered = [cost for status, cost in zip(statuses, costs, strict=True) if status == 200]
    return Charge(
        cloud.name,
        result.started_at,
        len(answered),
        answered.count(None),
        sum((cost for cost in answered if cost is not None), Decimal(0)),
    )


def cloud_of(run: Run) -> Engine | None:
    return next((each for each in clouds() if each.name == run.parameters["engine"]), None)


def _costs(cloud: Engine, model: str, result: Result) -> Iterator[Decimal | None]:
    """Of each request by itself: the price of a token may rise with the length of its prompt."""
    rows = result.requests
    for n_prompt, n, n_cached in zip(rows.n_prompt, rows.n_tokens, rows.n_cached, strict=True):
        yield (
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
