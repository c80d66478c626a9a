"""A profile as the gateway takes it: options in Ollama's names, limits in its units. Pure."""

from dataclasses import dataclass
from typing import Any

from tuning.fields import Values
from tuning.model_options import ModelOptions, gateway_models

OPTIONS = {
    "context": "num_ctx",
    "engine_batch": "num_batch",
    "num_predict": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
}


@dataclass(frozen=True)
class Machine:
    """What limits in per cent are of. `gpu_memory_bytes` None: no GPU, or unknown."""

    threads: int
    cores: int
    gpu_memory_bytes: int | None = None


def gateway_form(
    name: str, values: Values, machine: Machine, model_options: ModelOptions | None = None
) -> dict[str, Any]:
    """Keyword arguments of inference.gateway.profile.Profile, from effective `values`."""
    options = {target: values[own] for own, target in OPTIONS.items() if values[own] is not None}
    cap = thread_cap(values["cpu_percent"], machine.threads)
    # Engines take a thread per core by themselves: only fewer need saying.
    if cap is not None and cap < machine.cores:
        options["num_thread"] = cap
    keeps = bool(values["memory_optimization"])
    memory_mb, gpu_percent, ttl_min = (
        values["memory_mb"],
        values["gpu_memory_percent"],
        values["cache_ttl_min"],
    )
    vram = None
    if keeps and machine.gpu_memory_bytes and gpu_percent is not None:
        vram = int(machine.gpu_memory_bytes * gpu_percent / 100)
    return {
        "name": name,
        "options": options,
        "max_threads": cap,
        "gpu": values["gpu"] is not False,
        "parallel": values["batch"],
        "cache": values["cache"],
        "cache_ttl_s": None if ttl_min is None else ttl_min * 60,
        "memory_bytes": memory_mb * 2**20 if keeps and memory_mb is not None else None,
        "vram_bytes": vram,
        "models": gateway_models(model_options or {}),
    }


def limits_form(values: Values, machine: Machine) -> dict[str, Any]:
    """The same without a profile: only the limits of `values`, none of the options."""
    form = gateway_form("none", values, machine)
    return {name: form[name] for name in ("name", "max_threads", "memory_bytes", "vram_bytes")}


def thread_cap(cpu_percent: float | None, threads: int) -> int | None:
    """So many threads use no more than the share of the machine; one at least."""
    return None if cpu_percent is None else max(int(threads * cpu_percent / 100), 1)
