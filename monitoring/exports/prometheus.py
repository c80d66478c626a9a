"""`/metrics`: Prometheus text."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from monitoring.exports.families import Distribution, Family


class _Families:
    """A collector as prometheus_client wants it."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        for family in self.families:
            name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(name, family.help, family.kind)
            for point in family.points:
                if isinstance(point.value, Distribution):
                    _add_distribution(metric, point.labels, point.value)
                else:
                    metric.add_sample(family.name, point.labels, point.value)
            yield metric


def _add_distribution(metric: Metric, labels: dict[str, str], value: Distribution) -> None:
    bounds = [*map(str, value.bounds), "+Inf"]
    for bound, n in zip(bounds, accumulate(value.counts), strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, n)
    metric.add_sample(f"{metric.name}_count", labels, sum(value.counts))
    metric.add_sample(f"{metric.name}_sum", labels, value.sum)


def prometheus_text(families: Iterable[Family]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)
