"""The rules that every installation starts with; thresholds from config.yaml."""

from dataclasses import dataclass, field
from typing import Any

from monitoring.alerts.conditions import Kind
from monitoring.alerts.machine import NoData, Severity
from monitoring.alerts.windows import Aggregate
from monitoring.models.rule import EVALUATOR_LAG, SAMPLE_AGE

EVALUATOR_LATE_S = 3.5  # more than 3 intervals of a second; samples come some milliseconds apart from that


@dataclass(frozen=True)
class Thresholds:
    """`monitoring.alert_thresholds` of config.yaml."""

    memory_percent: float
    cpu_percent: float
    response_time_s: float
    error_rate_percent: float


@dataclass(frozen=True)
class DefaultRule:
    key: str
    values: dict[str, Any] = field(default_factory=dict)


def clear_below(percent: float) -> float:
    """Where a share that fires at `percent` clears: 5 points below, a tenth below where that is little."""
    return percent - 5 if percent > 50 else percent * 0.9


def memory_values(percent: float) -> dict[str, Any]:
    return {"fire_at": percent, "clear_at": clear_below(percent), "for_s": 60}


def cpu_values(percent: float) -> dict[str, Any]:
    return {"fire_at": percent, "clear_at": clear_below(percent), "for_s": 120}


def default_rules(thresholds: Thresholds) -> list[DefaultRule]:
    wait_ms = thresholds.response_time_s * 1000
    return [
        DefaultRule(
            "memory",
            {
                "name": "Memory",
                "series": "memory_used_percent",
                "aggregate": Aggregate.MEAN,
                "window_s": 10,
                **memory_values(thresholds.memory_percent),
                "advice": "Unload models, or use smaller ones, before the kernel ends a process.",
            },
        ),
        DefaultRule(
            "cpu",
            {
                "name": "CPU",
                "series": "cpu_percent",
                "aggregate": Aggregate.MEAN,
                "window_s": 60,
                **cpu_values(thresholds.cpu_percent),
                "advice": "See the processes on the live page; fewer threads or parallel requests leave room.",
            },
        ),
        DefaultRule(
            "disk",
            {
                "name": "Disk",
                "series": "disk_used_percent",
                "fire_at": 95,
                "clear_at": 92,
                "critical_at": 98,
                "for_s": 60,
                "keep_firing_for_s": 120,
                "advice": "Delete models or old data: a full disk stops everything that stores.",
            },
        ),
        DefaultRule(
            "gpu_memory",
            {
                "name": "GPU memory",
                "series": "gpu_memory_used_bytes",
                "aggregate": Aggregate.SHARE,
                "window_s": 30,
                "divisor": "gpu_memory_total_bytes",
                "fire_at": 95,
                "clear_at": 90,
                "advice": "A model that no longer fits runs on the CPU in part: unload one or shorten its context.",
            },
        ),
        DefaultRule(
            "gpu_temperature",
            {
                "name": "GPU temperature",
                "series": "gpu_temperature_celsius",
                "aggregate": Aggregate.MEAN,
                "window_s": 30,
                "fire_at": 85,
                "clear_at": 80,
                "critical_at": 92,
                "advice": "Look at fans and airflow; a lower power limit helps at once.",
            },
        ),
        DefaultRule(
            "gpu_hardware_slowdown",
            {
                "name": "GPU slowed by its hardware",
                "series": "gpu_held_hardware_slowdown_percent",
                "aggregate": Aggregate.MEAN,
                "window_s": 60,
                "fire_at": 10,
                "clear_at": 1,
                "critical_at": 50,
                "for_s": 0,
                "keep_firing_for_s": 60,
                "advice": "Too hot, or too little power (brake): look at fans, power supply, cables. Clocks are halved at least.",
            },
        ),
        DefaultRule(
            "gpu_software_thermal",
            {
                "name": "GPU slowed by heat",
                "series": "gpu_held_software_thermal_percent",
                "aggregate": Aggregate.MEAN,
                "window_s": 300,
                "fire_at": 10,
                "clear_at": 2,
                "for_s": 60,
                "keep_firing_for_s": 60,
                "advice": "Look at fans and airflow; a lower power limit often costs fewer tokens/s than the heat.",
            },
        ),
        DefaultRule(
            "model_spilled",
            {
                "name": "Model spilled",
                "series": "model_spilled_percent",
                "fire_at": 1,
                "clear_at": 0.5,
                "for_s": 30,
                "keep_firing_for_s": 30,
                "advice": "A part of it runs on the CPU: a shorter context, a smaller KV cache type or fewer models make room.",
            },
        ),
        DefaultRule(
            "model_share_rising",
            {
                "name": "More of a model on the CPU",
                "series": "model_spilled_more_percent",
                "kind": Kind.THRESHOLD,  # a rate, earlier
                "window_s": 10,
                "fire_at": 10,
                "clear_at": 1,
                "for_s": 0,
                "keep_firing_for_s": 120,
                "advice": "Loaded anew with less room on the GPU: the event lane tells what else was loaded meanwhile.",
            },
        ),
        DefaultRule(
            "response_time",
            {
                "name": "Response time",
                "series": "gateway_total_p95_ms",
                "fire_at": wait_ms,
                "clear_at": wait_ms * 0.9,
                "for_s": 30,
                "no_data": NoData.KEEP_LAST,
                "advice": "95 % of the last minute's answers took less than this: see the queue and the longest answers.",
            },
        ),
        DefaultRule(
            "error_rate",
            {
                "name": "Error rate",
                "series": "gateway_errors_per_s",
                "aggregate": Aggregate.SHARE,
                "window_s": 300,
                "divisor": "gateway_requests_per_s",
                "min_count": 10,
                "fire_at": thresholds.error_rate_percent,
                "clear_at": thresholds.error_rate_percent * 0.8,
                "for_s": 30,
                "no_data": NoData.KEEP_LAST,
                "advice": "The requests in the admin say which ones failed and why.",
            },
        ),
        DefaultRule(
            "engine_down",
            {
                "name": "Engine down",
                "series": "engine_up",
                "aggregate": Aggregate.MAX,
                "window_s": 5,
                "above": False,
                "fire_at": 0,
                "clear_at": 0.5,
                "severity": Severity.CRITICAL,
                "for_s": 30,
                "keep_firing_for_s": 15,
                "advice": "No model can answer: see the engine's log.",
            },
        ),
        DefaultRule(
            "host_silent",
            {
                "name": "Host silent",
                "series": SAMPLE_AGE,
                "fire_at": 15,
                "clear_at": 10,
                "severity": Severity.CRITICAL,
                "for_s": 15,
                "keep_firing_for_s": 10,
                "no_data": NoData.KEEP_LAST,
                "advice": "The collector takes no samples: see its log. Other alerts of the host are held back.",
            },
        ),
        DefaultRule(
            "evaluator_late",
            {
                "name": "Evaluator late",
                "series": EVALUATOR_LAG,
                "fire_at": EVALUATOR_LATE_S,
                "clear_at": 2,
                "severity": Severity.CRITICAL,
                "for_s": 10,
                "keep_firing_for_s": 10,
                "no_data": NoData.KEEP_LAST,
                "advice": "Rules are judged too late or not at all: see the collector's log, the database and the load.",
            },
        ),
    ]
