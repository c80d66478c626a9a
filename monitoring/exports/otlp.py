"""The same families by OpenTelemetry's protocol over HTTP, with the official SDK's exporter.

`OTEL_EXPORTER_OTLP_ENDPOINT`, `..._HEADERS`, `..._CERTIFICATE` and the like are the SDK's own and mean what they mean there."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from monitoring.exports.families import Distribution, Family, Point

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricsData

SERVICE = "aicleaner-performance"
TIMEOUT_MS = 10_000
UNKNOWN_NS = 0  # when a counter began: the protocol's word for unknown
log = logging.getLogger(__name__)


def export(families: Sequence[Family], now_ns: int) -> bool:
    """Send once; False when the receiver did not take it. `now_ns`: since 1970."""
    from opentelemetry.sdk.metrics.export import MetricExportResult

    return _exporter().export(metrics_data(families, now_ns), timeout_millis=TIMEOUT_MS) is (
        MetricExportResult.SUCCESS
    )


@cache
def _exporter() -> "OTLPMetricExporter":
    # Imported where it is used: nobody pays its memory who has set no endpoint.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def metrics_data(families: Sequence[Family], now_ns: int) -> "MetricsData":
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    hosts = {point.labels["host"] for family in families for point in family.points}
    resource = Resource.create({"service.name": SERVICE, **({"host.name": min(hosts)} if hosts else {})})
    metrics = [_metric(family, now_ns) for family in families if family.points]
    scope = ScopeMetrics(InstrumentationScope(SERVICE), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, now_ns: int) -> Any:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, Metric, Sum

    data: Any
    if family.kind == "histogram":
        points = [
            _histogram_point(point, point.value, now_ns)
            for point in family.points
            if isinstance(point.value, Distribution)
        ]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
    else:
        numbers = [_number_point(point, now_ns) for point in family.points]
        data = (
            Sum(numbers, AggregationTemporality.CUMULATIVE, True)
            if family.kind == "counter"
            else Gauge(numbers)
        )
    return Metric(family.otel, family.help, family.unit, data)


def _attributes(point: Point) -> dict[str, str]:
    return {name.replace("gen_ai_request_", "gen_ai.request."): value for name, value in point.labels.items()}


def _number_point(point: Point, now_ns: int) -> Any:
    from opentelemetry.sdk.metrics.export import NumberDataPoint

    return NumberDataPoint(_attributes(point), UNKNOWN_NS, now_ns, point.value)  # type: ignore[arg-type]


def _histogram_point(point: Point, value: Distribution, now_ns: int) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    return HistogramDataPoint(
        attributes=_attributes(point),
        start_time_unix_nano=UNKNOWN_NS,
        time_unix_nano=now_ns,
        count=sum(value.counts),
        sum=value.sum,
        bucket_counts=value.counts,
        explicit_bounds=value.bounds,
        min=float("nan"),
        max=float("nan"),
    )
