"""Which series share a chart, and how they are called there. No Django in here."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from monitoring.alerts.series import split_series, unit_of

# Charts in their order: title and the metrics in them, the first fit counts. All metrics of a chart have one unit.
CHARTS = (
    ("CPU", ("cpu_percent", "cpu_iowait_percent", "cpu_steal_percent")),
    ("Memory used", ("memory_used_percent",)),
    ("GPU", ("gpu_util_percent", "gpu_memory_busy_percent")),
    ("GPU memory", ("gpu_memory_*_bytes", "gpu_gtt_*_bytes")),
    ("GPU power", ("gpu_power_w", "gpu_power_limit_w")),
    ("GPU clocks held back", ("gpu_held_*_percent",)),
    ("Speed of each model", ("model_decode_tokens_per_s",)),
    ("Tokens", ("gateway_tokens_per_s", "gateway_prompt_tokens_per_s")),
    ("Time to first token", ("gateway_ttft_*_ms",)),
    ("Whole answers", ("gateway_total_*_ms",)),
    ("GPU energy per token", ("gpu_joules_per_token", "gpu_joules_per_token_error")),
    ("Requests", ("gateway_requests_per_s", "gateway_errors_per_s")),
    ("Requests in flight", ("gateway_running", "gateway_queued")),
    ("Models in memory", ("engine_memory_bytes", "engine_vram_bytes")),
    ("Memory of each model", ("model_memory_bytes", "model_vram_bytes", "model_process_*_bytes")),
    ("What each model holds", ("model_weights_bytes", "model_kv_cache_bytes", "model_buffers_bytes")),
    ("CPU of each model", ("model_process_cpu_percent", "cpu_others_percent")),
    ("Length of prompts and contexts", ("model_prompt_tokens", "model_context_tokens")),
    (
        "Models on the CPU",
        (
            "engine_cpu_share_percent",
            "model_cpu_share_percent",
            "model_spilled_percent",
            "model_spilled_more_percent",
        ),
    ),
    ("Memory", ("memory_*_bytes", "swap_used_bytes", "swap_total_bytes")),
    ("Swap traffic", ("swap_*_bytes_per_s",)),
    ("CPU cores", ("cpu_core_percent",)),
    ("Load", ("load1", "load5", "load15")),
    ("Pressure", ("pressure_*_percent",)),
    ("Disk traffic", ("disk_*_bytes_per_s",)),
    ("Disk busy", ("disk_util_percent",)),
    ("Disk fill", ("disk_used_percent",)),
    ("Disk space", ("disk_*_bytes",)),
    ("Network", ("network_*_bytes_per_s",)),
    ("Temperature", ("temperature_celsius", "gpu_*_celsius")),
)
# What a page begins with; of these what is there.
DEFAULT = (
    "cpu_percent", "memory_used_percent", "gpu_util_percent", "gpu_power_w", "gpu_held_power_cap_percent",
    "gpu_held_software_thermal_percent", "gpu_held_hardware_thermal_percent", "gpu_held_hardware_slowdown_percent",
    "model_decode_tokens_per_s", "gateway_tokens_per_s",
)  # fmt: skip
# What the metric alone does not say.
_WORDS = {
    "cpu_percent": "busy",
    "gpu_util_percent": "busy",
    "memory_used_percent": "of the host",
    "gateway_tokens_per_s": "generated",
    "model_decode_tokens_per_s": "generated",
    "model_spilled_percent": "left to the CPU",
    "model_spilled_more_percent": "more than before",
    "gateway_prompt_tokens_per_s": "prompt",
    "swap_used_bytes": "swap used",
    "swap_total_bytes": "swap total",
    "temperature_celsius": "sensor",
    "cpu_others_percent": "all other processes",
}
# Labels whose values need no word before them.
_NAMED_BY_THEMSELVES = ("mount", "device", "interface", "sensor", "model")
_LAST = len(CHARTS)
_ENDINGS = ("_bytes_per_s", "_per_s", "_percent", "_celsius", "_bytes", "_ms", "_mhz", "_w", "_total")


@dataclass(frozen=True, order=True)
class Group:
    """A chart. `place` orders them; those of no known title come last, one for each first word and unit."""

    place: int
    title: str
    unit: str


def unit(metric: str) -> str:
    if metric.startswith("gpu_joules_per_token"):
        return "J"
    return (
        "tokens/s"
        if metric.endswith("tokens_per_s")
        else "tokens"
        if metric.endswith("_tokens")
        else unit_of(metric)
    )


def group_of(metric: str) -> Group:
    for place, (title, patterns) in enumerate(CHARTS):
        if any(fnmatchcase(metric, pattern) for pattern in patterns):
            return Group(place, title, unit(metric))
    first = metric.partition("_")[0]
    return Group(_LAST, {"cpu": "CPU", "gpu": "GPU"}.get(first, first.capitalize()), unit(metric))


def rank(metric: str) -> tuple[int, str]:
    """Orders the metrics of one chart: as its patterns stand, then by name."""
    patterns = next((each for _, each in CHARTS if any(fnmatchcase(metric, pattern) for pattern in each)), ())
    fit = (place for place, pattern in enumerate(patterns) if fnmatchcase(metric, pattern))
    return next(fit, 0), metric


def words_of(metric: str) -> str:
    """The metric without its first word and its unit: `iowait`; all of it where nothing would be left."""
    if metric in _WORDS:
        return _WORDS[metric]
    ending = next((each for each in _ENDINGS if metric.endswith(each)), "")
    words = metric.removesuffix(ending).split("_")
    return " ".join(words[1:] or words)


def label_of(name: str, alone: bool) -> str:
    """How a line is called in its chart; `alone`: its metric is the only one there, so that the labels say it."""
    metric, labels = split_series(name)
    device = " ".join(
        value if label in _NAMED_BY_THEMSELVES else f"{label} {value}" for label, value in labels.items()
    )
    return device if device and alone else f"{words_of(metric)} {device}".strip()


def labels_in(names: list[str]) -> Mapping[str, str]:
    """The label of each of the series of one chart."""
    alone = len({name.partition("{")[0] for name in names}) == 1
    return {name: label_of(name, alone) for name in names}
