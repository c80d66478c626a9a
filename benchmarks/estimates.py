"""How long a run will take, from what was measured before; nothing is guessed."""

from statistics import median
from typing import Any

from django.db.models import F

from benchmarks.models import Measurement
from benchmarks.parameters import Parameters
from inference.models import InferenceRequest

SAME = (
    "kind",
    "workload",
    "prompt_tokens",
    "output_tokens",
    "num_predict",
    "concurrency",
    "rate_per_s",
    "think_time_s",
)
N_MEASUREMENTS, N_REQUESTS = 20, 200
START_S = 0.7  # of a load process


def estimate_s(parameters: Parameters) -> float | None:
    """Seconds; None while one of the models has neither a comparable run nor a recorded request."""
    per_round = [_round_s(parameters, model) for model in parameters.models]
    known = [seconds for seconds in per_round if seconds is not None]
    return parameters.n_rounds * sum(known) if len(known) == len(per_round) else None


def _round_s(parameters: Parameters, model: str) -> float | None:
    n = parameters.warmup + parameters.n_requests
    if parameters.rate_per_s:
        return START_S + n / parameters.rate_per_s
    if (per_request := _measured_s(parameters, model)) is None:
        per_request = _recorded_s(parameters, model)
        if per_request is None:
            return None
        # The engine may serve streams side by side or one by one; one by one is the safe assumption.
        per_request += parameters.think_time_s / parameters.concurrency
    return START_S + n * per_request


def _measured_s(parameters: Parameters, model: str) -> float | None:
    """Wall seconds a request took in earlier rounds of the same kind of run."""
    wanted = parameters.model_dump()
    rows = Measurement.objects.filter(model=model, complete=True, run__kind=parameters.kind).order_by(
        "-ended_at"
    )
    found = []
    for started, ended, given in rows.values_list("started_at", "ended_at", "run__parameters")[
        :N_MEASUREMENTS
    ]:
        if all(given.get(name) == wanted[name] for name in SAME):
            found.append(((ended - started).total_seconds() - START_S) / _n_sent(given))
    return max(median(found), 0.001) if found else None


def _recorded_s(parameters: Parameters, model: str) -> float | None:
    """Seconds a request takes alone, from the gateway's records of that model."""
    names = {model, model.removesuffix(":latest")}
    rows = InferenceRequest.objects.filter(
        model__in=names, status=200, output_tokens__gt=0, eval_ms__isnull=False, total_ms__gte=F("eval_ms")
    ).order_by("-at")
    found = [
        (total, load or 0.0, evaluation or 0.0, tokens or 1)
        for total, load, evaluation, tokens in rows.values_list(
            "total_ms", "load_ms", "eval_ms", "output_tokens"
        )[:N_REQUESTS]
    ]
    if not found:
        return None
    before_ms = median(total - load - evaluation for total, load, evaluation, _ in found)
    per_token_ms = median(evaluation / tokens for _, _, evaluation, tokens in found)
    n_tokens = parameters.output_tokens or parameters.num_predict or median(tokens for *_, tokens in found)
    return float((max(before_ms, 0) + per_token_ms * n_tokens) / 1000)


def _n_sent(given: dict[str, Any]) -> int:
    parameters = Parameters.model_validate(given)
    return parameters.warmup + parameters.n_requests
