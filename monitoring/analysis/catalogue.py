"""Which series are looked at, how much of a change matters, and which limits there are. No Django in here."""

from monitoring.alerts.series import split_series, unit_of
from monitoring.store.packing import is_counter

MOST_SERIES = 200  # of one host
# What says the same as another series, never moves, or only counts up.
LEFT_OUT = frozenset({
    "memory_used_bytes", "memory_available_bytes", "memory_total_bytes", "swap_total_bytes", "disk_free_bytes",
    "cpu_core_percent", "cpu_frequency_mhz", "load5", "load15", "engine_cpu_share_percent",
    "gpu_memory_total_bytes", "gpu_memory_reserved_bytes", "gpu_gtt_total_bytes", "gpu_power_limit_w",
    "model_weights_bytes", "model_kv_cache_bytes", "model_buffers_bytes", "model_context_tokens", "model_prompt_tokens",
    "cpu_others_percent",
    "gpu_power_instant_w", "gpu_throttle_bits", "gpu_pcie_generation", "gpu_pcie_width", "gpu_joules_per_token_error",
})  # fmt: skip
# So far in its unit has a series to move before it is worth a word, however sure the statistics are.
LEAST = {
    "%": 2.0, "°C": 3.0, "B/s": 102_400.0, "B": 64 * 2**20, "ms": 5.0, "W": 5.0, "MHz": 100.0, "/s": 0.2, "s": 1.0, "": 0.5,
}  # fmt: skip
LEAST_SHARE = 0.1  # of its level
LIMITS: dict[str, "float | str"] = {
    "disk_used_percent": 100.0,
    "memory_used_percent": 100.0,
    "swap_used_bytes": "swap_total_bytes",
    "gpu_memory_used_bytes": "gpu_memory_total_bytes",
}
# What tells idle from busy: requests that run.
LOAD, BUSY_AT = "gateway_running", 1.0


def is_looked_at(name: str) -> bool:
    metric = split_series(name)[0]
    return metric not in LEFT_OUT and not is_counter(metric) and metric != LOAD


def chosen(names: list[str]) -> list[str]:
    return [name for name in sorted(names) if is_looked_at(name)][:MOST_SERIES]


def matters(name: str, change: float, level: float) -> bool:
    least = LEAST[unit_of(split_series(name)[0])]
    return abs(change) >= max(LEAST_SHARE * abs(level), least)


def limit_of(name: str) -> "float | str | None":
    """A number, or the series whose newest value it is."""
    metric = split_series(name)[0]
    limit = LIMITS.get(metric)
    return limit + name.removeprefix(metric) if isinstance(limit, str) else limit
