"""The last sample under conventional names: base units (seconds, bytes, ratios, watts), one family a metric. No I/O in here.

Names follow Prometheus' conventions, and OpenTelemetry's semantic conventions where these have a name for it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from monitoring.alerts.series import split_series

PREFIX = "aicleaner_"
Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True)
class Distribution:
    """`counts[i]` values were at most `bounds[i]` and above the bound before; the last count is of those above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


@dataclass(frozen=True)
class Point:
    labels: dict[str, str]
    value: float | Distribution


@dataclass(frozen=True)
class Family:
    """`name` for Prometheus, a counter's with `_total`; `otel` for OpenTelemetry; `unit` by UCUM."""

    name: str
    otel: str
    unit: str
    kind: Kind
    help: str
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Unit:
    """How names of series end, how exported ones do, and the factor between them."""

    suffix: str
    exported: str
    factor: float
    ucum: str


UNITS = (
    Unit("_percent", "_ratio", 0.01, "1"),
    Unit("_ms", "_seconds", 1e-3, "s"),
    Unit("_mhz", "_hertz", 1e6, "Hz"),
    Unit("_w", "_watts", 1.0, "W"),
    Unit("_j", "_joules_total", 1.0, "J"),
    Unit("_s_total", "_seconds_total", 1.0, "s"),
    Unit("_bytes_per_s", "_bytes_per_second", 1.0, "By/s"),
    Unit("_per_s", "_per_second", 1.0, "1/s"),
    Unit("_s", "_seconds", 1.0, "s"),
    Unit("_celsius", "_celsius", 1.0, "Cel"),
    Unit("_bytes", "_bytes", 1.0, "By"),
    Unit("", "", 1.0, "1"),
)
OTEL = {
    "cpu_percent": "system.cpu.utilization",
    "memory_used_bytes": "system.memory.usage",
    "memory_total_bytes": "system.memory.limit",
    "memory_used_percent": "system.memory.utilization",
    "swap_used_bytes": "system.paging.usage",
    "disk_used_percent": "system.filesystem.utilization",
    "gpu_util_percent": "hw.gpu.utilization",
    "gpu_memory_used_bytes": "hw.gpu.memory.usage",
    "gpu_memory_total_bytes": "hw.gpu.memory.limit",
    "gpu_power_w": "hw.power",
    "gpu_energy_j": "hw.energy",
    "gpu_temperature_celsius": "hw.temperature",
}
HELP = {
    "cpu_percent": "Share of the time in which the cores worked.",
    "cpu_iowait_percent": "Share of the time in which cores had nothing to do but wait for disks.",
    "cpu_steal_percent": "Share of the time that the hypervisor gave to others.",
    "memory_used_percent": "Share of the memory that is not available to new processes.",
    "disk_util_percent": "Share of the time in which the disk had something to do.",
    "network_total_receive_bytes_per_s": "Traffic into the machine, over the interfaces that lie on no other.",
    "network_total_transmit_bytes_per_s": "Traffic out of the machine, over the interfaces that lie on no other.",
    "engine_up": "1 while the engine answers.",
    "engine_cpu_share_percent": "Share of the loaded models' bytes that lies outside GPU memory.",
    "engine_memory_bytes": "Memory of all loaded models together, GPU memory included.",
    "engine_vram_bytes": "GPU memory of all loaded models together.",
    "gateway_ttft_p50_ms": "Time to the first content, median of the last minute.",
    "gateway_ttft_p95_ms": "Time to the first content, 95th percentile of the last minute.",
    "gateway_total_p50_ms": "Time of whole answers, median of the last minute.",
    "gateway_total_p95_ms": "Time of whole answers, 95th percentile of the last minute.",
    "gateway_running": "Requests whose answer has begun.",
    "gateway_queued": "Requests that wait for the beginning of their answer.",
    "gateway_records_lost_total": "Request records that could not be stored.",
    "gateway_cache_saved_s_total": "Time that kept answers saved.",
    "model_decode_tokens_per_s": "Tokens by the engine's own time of generating, of the requests that ended within a minute.",
    "model_prompt_tokens": "Mean length of the prompts of the requests that ended within a minute.",
    "model_weights_bytes": "Size of the model's file.",
    "model_kv_cache_bytes": "KV cache of a loaded model, from its architecture, context and cache type.",
    "model_buffers_bytes": "What a loaded model takes beside weights and KV cache.",
    "model_process_vram_bytes": "GPU memory of the model's process, as the driver says.",
    "model_spilled_percent": "Share of a model that is not on a GPU, on a machine that has one.",
    "model_spilled_more_percent": "How much more of it that is than before its last change, for 10 minutes.",
    "cpu_others_percent": "Share of the CPU used by processes that run no model.",
    "gpu_util_percent": "Share of the time in which a kernel ran.",
    "gpu_memory_busy_percent": "Share of the time in which the GPU memory was read or written.",
    "gpu_energy_j": "Energy since the driver was loaded.",
    "collector_samples_waiting": "Samples that wait for the database.",
    "evaluator_lag_s": "Seconds that the judging of alert rules is behind the samples.",
    "collector_samples_lost_total": "Samples that were never stored.",
}
# Of the gateway's own counters, which are no series: rates of them are.
GATEWAY_COUNTERS = {
    "requests_total": "Requests that have ended.",
    "errors_total": "Requests that failed.",
    "tokens_total": "Tokens generated.",
}
# Of the gateway's histograms: (Prometheus, OpenTelemetry, help).
HISTOGRAMS = {
    "ttft": (
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai.server.time_to_first_token",
        "Time from the request to the first content of its streamed answer.",
    ),
    "total": (
        "gen_ai_client_operation_duration_seconds",
        "gen_ai.client.operation.duration",
        "Time from the request to the end of its answer; failed ones are left out.",
    ),
}


def families_of(
    sample: Mapping[str, Any], gateway: Mapping[str, Any] | None, alerts: Mapping[tuple[str, str], int]
) -> list[Family]:
    """`sample`: the collector's last; `gateway`: what it says of itself, None when it is silent; `alerts`: number of open
    ones by (severity, state). What is unknown is left out."""
    host = {"host": str(sample["host"])}
    found: dict[str, Family] = {}
    for series, value in sample["v"].items():
        if value is None or not math.isfinite(value):
            continue
        metric, labels = split_series(series)
        family = found.get(metric)
        if family is None:
            family = found[metric] = family_of(metric)
        family.points.append(Point({**host, **labels}, value * unit_of(metric).factor))
    return [*found.values(), *_gateway_families(host, gateway or {}), _alerts_family(host, alerts)]


def unit_of(metric: str) -> Unit:
    return next(unit for unit in UNITS if metric.endswith(unit.suffix))


def family_of(metric: str) -> Family:
    """An empty family for the series of a metric."""
    unit = unit_of(metric)
    stem = metric.removesuffix(unit.suffix) if unit.suffix else metric
    name = PREFIX + stem + unit.exported
    return Family(
        name=name,
        otel=OTEL.get(metric, f"aicleaner.{stem}"),
        unit=unit.ucum,
        kind="counter" if name.endswith("_total") else "gauge",
        help=HELP.get(metric, f"{stem.replace('_', ' ').capitalize()}."),
    )


def _gateway_families(host: dict[str, str], gateway: Mapping[str, Any]) -> Iterable[Family]:
    for key, text in GATEWAY_COUNTERS.items():
        if key in gateway:
            family = Family(f"{PREFIX}gateway_{key}", f"aicleaner.gateway.{key[:-6]}", "1", "counter", text)
            family.points.append(Point(host, float(gateway[key])))
            yield family
    kept = gateway.get("histograms")
    for key, (name, otel, text) in HISTOGRAMS.items():
        if not kept:
            continue
        family = Family(name, otel, "s", "histogram", text)
        bounds = tuple(float(each) for each in kept["bounds_s"])
        for model, (counts, total) in kept[key].items():
            labels = {**host, "gen_ai_request_model": model}
            family.points.append(Point(labels, Distribution(bounds, tuple(counts), float(total))))
        yield family


def _alerts_family(host: dict[str, str], alerts: Mapping[tuple[str, str], int]) -> Family:
    family = Family(
        f"{PREFIX}alerts_open", "aicleaner.alerts.open", "1", "gauge", "Alerts that are open now."
    )
    for (severity, state), n in sorted(alerts.items()):
        family.points.append(Point({**host, "severity": severity, "state": state}, float(n)))
    return family
