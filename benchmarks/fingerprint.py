"""Under which circumstances a run was measured: two runs are compared fairly only where these agree."""

import platform
import time
from typing import Any

from benchmarks.engines import Engine, EngineModel, engine_version
from benchmarks.parameters import Parameters
from monitoring.collector import Sampler
from monitoring.readers import Roots

DRIVER_S = 10.0  # a GPU's driver that starts takes seconds
READERS = ["cpu", "memory", "nvidia", "amd"]


def take_fingerprint(
    host: str, engine: Engine, models: dict[str, EngineModel], parameters: Parameters
) -> dict[str, Any]:
    """JSON-ready; what is unknown is None or "". Raises EngineError."""
    kind, version = engine_version(engine)
    return {
        "host": _host(host),
        "engine": {"name": engine.name, "kind": kind, "version": version, "url": engine.url},
        "models": {
            name: {
                "name": model.name,
                "digest": model.digest,
                "size_bytes": model.size_bytes,
                "parameter_size": model.parameter_size,
                "quantization": model.quantization,
                "family": model.family,
            }
            for name, model in models.items()
        },
        "options": parameters.options
        | ({"num_predict": parameters.num_predict} if parameters.num_predict else {}),
    }


def _host(host: str) -> dict[str, Any]:
    sampler = Sampler(host, Roots(), READERS)
    try:
        sampler.wait_for_first(DRIVER_S)
        sample = sampler.sample(time.time(), time.monotonic())
    finally:
        sampler.close()
    cpu, gpus = sample["state"].get("cpu") or {}, sample["state"].get("gpus") or []
    return {
        "name": host,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cpu": cpu.get("model"),
        "n_cores": cpu.get("n_cores"),
        "n_threads": cpu.get("n_threads"),
        "memory_bytes": sample["v"].get("memory_total_bytes"),
        "gpus": [
            {
                "name": gpu.get("name"),
                "driver": gpu.get("driver"),
                "power_limit_w": sample["v"].get(f"gpu_power_limit_w{{gpu={gpu.get('index')}}}"),
            }
            for gpu in gpus
        ],
        "gpu_reason": sample["state"].get("gpu_reason") or "",
    }


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints apart from the models, as short sentences."""
    pairs = [
        (label, a.get(section) or {}, b.get(section) or {})
        for section, label in (("host", "host"), ("engine", "engine"), ("options", "option"))
    ]
    return [
        f"{label} {key.replace('_', ' ')}: {_shown(one.get(key))} / {_shown(two.get(key))}"
        for label, one, two in pairs
        for key in dict.fromkeys([*one, *two])
        if one.get(key) != two.get(key)
    ]


def _shown(value: Any) -> str:
    return "unknown" if value in (None, "", []) else str(value)
