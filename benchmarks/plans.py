"""The load generator's plan for one model in one round of a run."""

from pydantic import ValidationError

from benchmarks.engines import Engine
from benchmarks.load.plan import Plan, explain
from benchmarks.parameters import Parameters

# An answer that the gateway kept would measure the cache.
GATEWAY_HEADERS = {"x-aicleaner-client": "benchmark", "cache-control": "no-cache"}
# Fields of the form, where they are called otherwise than in the plan.
FORM_FIELDS = {
    "workload": "prompts",
    "slo.ttft_ms": "slo_ttft_ms",
    "slo.total_ms": "slo_total_ms",
    "slo.tpot_ms": "slo_tpot_ms",
}


def plan_of(parameters: Parameters, engine: Engine, model: str, number: int) -> Plan:
    """Raises pydantic's ValidationError. Each round has a seed of its own, the same for all models: fair pairs."""
    return Plan.model_validate(
        {
            "url": engine.url,
            "api": engine.api,
            "api_key": engine.key or None,
            "model": model,
            "kind": parameters.kind,
            "concurrency": parameters.concurrency,
            "rate_per_s": parameters.rate_per_s,
            "think_time_s": parameters.think_time_s,
            "n_requests": parameters.n_requests,
            "n_warmup": parameters.n_warmup,
            "workload": parameters.workload,
            "prompt_tokens": parameters.prompt_tokens,
            "output_tokens": parameters.output_tokens,
            "num_predict": parameters.num_predict,
            "options": parameters.options,
            "slo": parameters.slo,
            "timeout_s": parameters.timeout_s,
            "seed": parameters.seed + number,
            "headers": GATEWAY_HEADERS if engine.name == "gateway" else {},
        }
    )


def problems(parameters: Parameters) -> list[tuple[str, str]]:
    """(field of the form, sentence) for what the load generator would refuse."""
    try:
        plan_of(parameters, Engine("gateway", "ollama", "http://127.0.0.1"), parameters.models[0], 0)
    except ValidationError as error:
        return [(FORM_FIELDS.get(field, field), f"{field} {text}") for field, text in explain(error)]
    return []
