"""A Grafana dashboard over `/metrics`, to be imported as it is: Grafana asks which Prometheus it shall read."""

from dataclasses import dataclass
from typing import Any

COLUMNS, WIDTH, HEIGHT = 24, 8, 7
HOST = 'host=~"$host"'


@dataclass(frozen=True)
class Panel:
    """`queries`: (PromQL, legend); `$` stands for the choice of the host. `unit` by Grafana's names."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    most: float | None = None


PANELS = (
    Panel(
        "Tokens per second", "short",
        (("aicleaner_gateway_tokens_per_second{$}", "generated"),
         ("aicleaner_gateway_prompt_tokens_per_second{$}", "prompt")),
    ),
    Panel(
        "Time to first token", "s",
        (("histogram_quantile(0.5, sum by (le) (rate(gen_ai_server_time_to_first_token_seconds_bucket{$}[5m])))", "p50"),
         ("histogram_quantile(0.95, sum by (le) (rate(gen_ai_server_time_to_first_token_seconds_bucket{$}[5m])))", "p95")),
    ),
    Panel(
        "Whole answers by model, p95", "s",
        (("histogram_quantile(0.95, sum by (le, gen_ai_request_model) "
          "(rate(gen_ai_client_operation_duration_seconds_bucket{$}[5m])))", "{{gen_ai_request_model}}"),),
    ),
    Panel(
        "Requests", "reqps",
        (("rate(aicleaner_gateway_requests_total{$}[1m])", "all"),
         ("rate(aicleaner_gateway_errors_total{$}[1m])", "failed")),
    ),
    Panel(
        "Running and waiting", "short",
        (("aicleaner_gateway_running{$}", "running"), ("aicleaner_gateway_queued{$}", "waiting")),
    ),
    Panel("Open alerts", "short", (("sum by (severity) (aicleaner_alerts_open{$})", "{{severity}}"),)),
    Panel("GPU utilization", "percentunit", (("aicleaner_gpu_util_ratio{$}", "GPU {{gpu}}"),), most=1),
    Panel(
        "GPU memory", "bytes",
        (("aicleaner_gpu_memory_used_bytes{$}", "GPU {{gpu}} used"),
         ("aicleaner_gpu_memory_total_bytes{$}", "GPU {{gpu}} total")),
    ),
    Panel("GPU power", "watt", (("aicleaner_gpu_power_watts{$}", "GPU {{gpu}}"),)),
    Panel(
        "GPU clocks held back", "percentunit",
        (("aicleaner_gpu_held_power_cap_ratio{$}", "GPU {{gpu}} power cap"),
         ("aicleaner_gpu_held_software_thermal_ratio{$}", "GPU {{gpu}} heat"),
         ("aicleaner_gpu_held_hardware_slowdown_ratio{$}", "GPU {{gpu}} hardware")),
        most=1,
    ),
    Panel("Speed of each model", "short", (("aicleaner_model_decode_tokens_per_second{$}", "{{model}} tokens/s"),)),
    Panel(
        "What each model holds", "bytes",
        (("aicleaner_model_weights_bytes{$}", "{{model}} weights"), ("aicleaner_model_kv_cache_bytes{$}", "{{model}} KV cache"),
         ("aicleaner_model_buffers_bytes{$}", "{{model}} buffers")),
    ),
    Panel("Share of each model on the CPU", "percentunit", (("aicleaner_model_cpu_share_ratio{$}", "{{model}}"),), most=1),
    Panel("GPU temperature", "celsius", (("aicleaner_gpu_temperature_celsius{$}", "GPU {{gpu}}"),)),
    Panel(
        "Memory of loaded models", "bytes",
        (("aicleaner_engine_memory_bytes{$}", "all"), ("aicleaner_engine_vram_bytes{$}", "on GPUs")),
    ),
    Panel(
        "Energy per token", "joule",
        (("sum(rate(aicleaner_gpu_energy_joules_total{$}[5m])) / sum(rate(aicleaner_gateway_tokens_total{$}[5m]))",
          "GPUs, gross"),),
    ),
    Panel(
        "CPU", "percentunit",
        (("aicleaner_cpu_ratio{$}", "busy"), ("aicleaner_cpu_iowait_ratio{$}", "iowait"),
         ("aicleaner_cpu_steal_ratio{$}", "steal")),
        most=1,
    ),
    Panel("Memory", "percentunit", (("aicleaner_memory_used_ratio{$}", "used"),), most=1),
    Panel(
        "Pressure", "percentunit",
        (("aicleaner_pressure_cpu_some_ratio{$}", "CPU"), ("aicleaner_pressure_memory_some_ratio{$}", "memory"),
         ("aicleaner_pressure_io_some_ratio{$}", "I/O")),
    ),
    Panel("Disks", "percentunit", (("aicleaner_disk_used_ratio{$}", "{{mount}} used"),), most=1),
    Panel(
        "Disk traffic", "Bps",
        (("aicleaner_disk_read_bytes_per_second{$}", "{{device}} read"),
         ("aicleaner_disk_write_bytes_per_second{$}", "{{device}} written")),
    ),
    Panel(
        "Network", "Bps",
        (("aicleaner_network_receive_bytes_per_second{$}", "{{interface}} in"),
         ("aicleaner_network_transmit_bytes_per_second{$}", "{{interface}} out")),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """As Grafana's import takes it."""
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    return {
        "__inputs": [
            {
                "name": "DS_PROMETHEUS",
                "label": "Prometheus",
                "type": "datasource",
                "pluginId": "prometheus",
                "pluginName": "Prometheus",
            }
        ],
        "title": "AICleaner Performance",
        "uid": "aicleaner-performance",
        "schemaVersion": 39,
        "tags": ["aicleaner"],
        "timezone": "browser",
        "refresh": "30s",
        "graphTooltip": 1,  # one cursor through all panels
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "host",
                    "label": "Host",
                    "type": "query",
                    "datasource": source,
                    "query": {"query": "label_values(aicleaner_cpu_ratio, host)", "refId": "hosts"},
                    "refresh": 2,
                    "includeAll": True,
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                }
            ]
        },
        "panels": [_panel(number, panel, source) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    per_row = COLUMNS // WIDTH
    most = {} if panel.most is None else {"max": panel.most}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {
            "x": number % per_row * WIDTH,
            "y": number // per_row * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                **most,
                "custom": {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False},
            },
            "overrides": [],
        },
        "options": {
            "tooltip": {"mode": "multi"},
            "legend": {"displayMode": "list", "placement": "bottom", "calcs": ["lastNotNull"]},
        },
        "targets": [
            {
                "refId": chr(ord("A") + each),
                "expr": query.replace("$}", HOST + "}"),
                "legendFormat": legend,
                "datasource": source,
            }
            for each, (query, legend) in enumerate(panel.queries)
        ],
    }
