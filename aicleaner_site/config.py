"""`config.yaml`: its schema, defaults and errors that name the key."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Percent = Annotated[float, Field(gt=0, le=100)]
Level = Literal["int4", "int8", "fp16", "dynamic"]


class Section(BaseModel):
    """A mapping without unknown keys: a misspelt key is an error, never silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantization(Section):
    enabled: bool = True
    default_level: Level = "dynamic"
    levels: tuple[Level, ...] = ("int4", "int8", "fp16", "dynamic")
    auto_select: bool = True
    auto_quantize: bool = False
    max_loss: float = Field(0.05, gt=0, le=10)
    memory_threshold_mb: int = Field(2048, gt=0)

    @model_validator(mode="after")
    def default_is_offered(self) -> "Quantization":
        if self.default_level not in self.levels:
            raise ValueError(f"default_level '{self.default_level}' is not one of levels")
        return self


class Compression(Section):
    enabled: bool = True
    default_type: Literal["gzip", "zstd", "pruning"] = "gzip"
    auto_compress: bool = False
    size_threshold_gb: float = Field(2.0, gt=0)
    cold_after_days: float = Field(7, gt=0)


class GpuAcceleration(Section):
    enabled: bool = True
    auto_detect: bool = True
    memory_fraction: float = Field(0.8, gt=0, le=1)
    fallback_to_cpu: bool = True


class ResourceManagement(Section):
    memory_limit_mb: int = Field(4096, gt=0)
    cpu_limit_percent: Percent = 80
    model_cache_size: int = Field(2, ge=1)
    unload_timeout_minutes: float = Field(30, gt=0)
    auto_cleanup: bool = True


class AutoTuning(Section):
    enabled: bool = False
    adaptation_interval_hours: float = Field(24, gt=0)
    min_samples: int = Field(10, ge=2)
    performance_target: Literal["latency", "throughput", "resources", "accuracy", "balanced"] = "balanced"


class AlertThresholds(Section):
    memory: Percent = 90
    cpu: Percent = 95
    response_time_seconds: float = Field(60, gt=0)
    error_rate_percent: Percent = 5


class Monitoring(Section):
    enabled: bool = True
    metrics_retention_hours: int = Field(168, ge=1)
    alert_thresholds: AlertThresholds = AlertThresholds()


class Benchmarking(Section):
    enabled: bool = True
    schedule_interval_hours: float = Field(24, gt=0)
    baseline_update_days: float = Field(7, gt=0)
    regression_threshold_percent: float = Field(20, gt=0)
    electricity_price_per_kwh: float | None = Field(None, ge=0)
    hardware_price: float = Field(0, ge=0)
    hardware_lifetime_years: float = Field(4, gt=0)


class Caching(Section):
    inference_cache_enabled: bool = True
    cache_ttl_minutes: float = Field(5, gt=0)
    max_cache_entries: int = Field(100, ge=1)
    cache_compression: bool = True


class RequestLog(Section):
    keep_prompts: bool = False
    max_prompt_bytes: int = Field(4096, ge=64, le=65536)
    prompt_retention_hours: float = Field(24, gt=0, le=8760)


class Watchdog(Section):
    enabled: bool = True
    quiet_seconds: float = Field(60, ge=5, le=3600)


class Advanced(Section):
    batch_optimization: bool = True
    context_window_optimization: bool = True
    prompt_optimization: bool = False
    model_switching_optimization: bool = True


class PerformanceOptimization(Section):
    quantization: Quantization = Quantization()
    compression: Compression = Compression()
    gpu_acceleration: GpuAcceleration = GpuAcceleration()
    resource_management: ResourceManagement = ResourceManagement()
    auto_tuning: AutoTuning = AutoTuning()
    monitoring: Monitoring = Monitoring()
    benchmarking: Benchmarking = Benchmarking()
    caching: Caching = Caching()
    request_log: RequestLog = RequestLog()
    watchdog: Watchdog = Watchdog()
    advanced: Advanced = Advanced()


class ConfigError(ImproperlyConfigured):
    """`config.yaml` is not as it should be; the text has one line a problem, each naming its key."""


def load_config(file: Path) -> PerformanceOptimization:
    """Section `performance_optimization` of `file`; a file that isn't there means all defaults."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return PerformanceOptimization()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}.") from error
    return parse_config(text, name=str(file))


def parse_config(text: str, name: str = "config.yaml") -> PerformanceOptimization:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {error}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} must be a mapping with the key 'performance_optimization'.")
    if unknown := [str(key) for key in tree if key != "performance_optimization"]:
        raise ConfigError(
            f"{name}: unknown key '{unknown[0]}'; settings belong under 'performance_optimization'."
        )
    try:
        return PerformanceOptimization.model_validate(tree.get("performance_optimization") or {})
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(["performance_optimization", *map(str, problem["loc"])])
            if problem["type"] == "extra_forbidden":
                lines.append(f"{name}: {key} is not a known key; look for a spelling mistake.")
            else:
                lines.append(f"{name}: {key}: {problem['msg']} (given: {problem['input']!r})")
        raise ConfigError("\n".join(lines)) from error


KEYS_IN_USE = frozenset(
    {
        "benchmarking.electricity_price_per_kwh",
        "benchmarking.hardware_price",
        "benchmarking.hardware_lifetime_years",
        "caching.cache_compression",
        "caching.cache_ttl_minutes",
        "caching.inference_cache_enabled",
        "caching.max_cache_entries",
        "compression.auto_compress",
        "compression.cold_after_days",
        "compression.default_type",
        "compression.enabled",
        "compression.size_threshold_gb",
        "quantization.auto_quantize",
        "quantization.auto_select",
        "quantization.default_level",
        "quantization.enabled",
        "quantization.levels",
        "quantization.max_loss",
        "quantization.memory_threshold_mb",
        "request_log.keep_prompts",
        "request_log.max_prompt_bytes",
        "request_log.prompt_retention_hours",
        "gpu_acceleration.enabled",
        "gpu_acceleration.memory_fraction",
        "resource_management.auto_cleanup",
        "resource_management.cpu_limit_percent",
        "resource_management.memory_limit_mb",
        "resource_management.model_cache_size",
        "resource_management.unload_timeout_minutes",
        "watchdog.enabled",
        "watchdog.quiet_seconds",
        "monitoring.metrics_retention_hours",
        "monitoring.alert_thresholds.memory",
        "monitoring.alert_thresholds.cpu",
        "monitoring.alert_thresholds.response_time_seconds",
        "monitoring.alert_thresholds.error_rate_percent",
    }
)


def unused_keys(config: PerformanceOptimization) -> list[str]:
    """Keys that the file sets and that nothing acts on yet, as dotted paths."""
    return sorted(f"performance_optimization.{key}" for key in _keys_set(config) if key not in KEYS_IN_USE)


def _keys_set(section: BaseModel, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in section.model_fields_set:
        value = getattr(section, name)
        keys += _keys_set(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
    return keys
