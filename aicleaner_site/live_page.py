"""What the live page starts with."""

import json
from typing import Any

import numpy as np
import redis
from django.conf import settings

from monitoring import selectors
from monitoring.store.packing import Floats

SECONDS = 900
# The metrics that the page's charts and figures draw; all their labels come along. The page keeps no others.
METRICS = frozenset(
    {
        *("cpu_percent", "cpu_iowait_percent", "cpu_steal_percent"),
        *("memory_used_percent", "memory_used_bytes", "memory_total_bytes", "swap_used_bytes"),
        *("pressure_cpu_some_percent", "pressure_memory_full_percent", "pressure_io_full_percent"),
        *("disk_read_bytes_per_s", "disk_write_bytes_per_s", "disk_util_percent"),
        *("network_total_receive_bytes_per_s", "network_total_transmit_bytes_per_s", "temperature_celsius"),
        *("gpu_util_percent", "gpu_memory_busy_percent", "gpu_memory_used_bytes", "gpu_power_w"),
        *("gpu_temperature_celsius", "gpu_throttle_bits", "engine_memory_bytes", "engine_vram_bytes"),
        *("gateway_tokens_per_s", "gateway_prompt_tokens_per_s", "gateway_requests_per_s"),
        *("gateway_errors_per_s", "gateway_ttft_p50_ms", "gateway_ttft_p95_ms"),
        *("gateway_running", "gateway_queued"),
    }
)


def first_data(now: float) -> dict[str, Any]:
    """The last 15 minutes before `now` (s), second by second, with the events in them and the newest sample
    (None: no collector). `now` comes along: the page tells the sample's age by it, not by the viewer's clock."""
    host = settings.HOST_NAME
    names = [name for name in selectors.series_names(host) if name.partition("{")[0] in METRICS]
    answer = selectors.recent_samples(host, names, now, SECONDS)
    return {
        "now": now,
        "start": answer.start,
        "series": {name: numbers(buckets.mean) for name, buckets in answer.series.items()},
        "events": [
            {"at": event.at.timestamp(), "kind": event.kind, "text": event.text}
            for event in selectors.recent_events(host, now, SECONDS)
        ],
        "sample": last_sample(),
    }


def last_sample() -> dict[str, Any] | None:
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        raw: Any = client.get("aicleaner:live:last")
    except redis.RedisError:
        return None
    finally:
        client.close()
    return json.loads(raw) if raw else None


def numbers(values: Floats) -> list[float | None]:
    """Five significant digits are more than a strip shows; unknown is null."""
    return [
        float(f"{value:.5g}") if known else None
        for value, known in zip(values, np.isfinite(values), strict=True)
    ]
