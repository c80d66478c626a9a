"""`/metrics`: the last sample as Prometheus text."""

import json
import math
from collections.abc import Iterator

import redis
from django.conf import settings
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

PREFIX = "aicleaner_"


def parse_series(series: str) -> tuple[str, dict[str, str]]:
    """`disk_used_percent{mount=/}` -> (`disk_used_percent`, {"mount": "/"})."""
    metric, brace, labels = series.partition("{")
    pairs = (pair.partition("=") for pair in labels.removesuffix("}").split(",")) if brace else ()
    return metric, {name: value for name, _, value in pairs}


class LastSample:
    """Collector for prometheus_client: one gauge family a metric, with the host as a label; unknown values are left out."""

    def __init__(self, sample: dict[str, object]) -> None:
        self.sample = sample

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        host = str(self.sample["host"])
        values = self.sample["v"]
        assert isinstance(values, dict)
        for series, value in values.items():
            if value is None or not math.isfinite(value):
                continue
            metric, labels = parse_series(series)
            family = families.get(metric)
            if family is None:
                family = families[metric] = GaugeMetricFamily(
                    PREFIX + metric, f"{metric} as on the dashboard", labels=["host", *labels]
                )
            family.add_metric([host, *labels.values()], value)
        yield from families.values()


def render() -> bytes | None:
    """Prometheus text of the last sample; None when the collector has not written one for ten seconds."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        raw = client.get("aicleaner:live:last")
    except redis.RedisError:
        return None
    finally:
        client.close()
    if raw is None:
        return None
    registry = CollectorRegistry()
    registry.register(LastSample(json.loads(raw)))
    return generate_latest(registry)
