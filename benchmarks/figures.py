"""How figures are written."""

from collections.abc import Sequence

from benchmarks.statistics.metrics import METRICS, Metric

SHARES = {"error_rate", "attainment"}


def number(value: float | None, metric: Metric) -> str:
    """Three or four digits; shares in percent; – for unknown."""
    if value is None:
        return "–"
    if metric.key in SHARES:
        return f"{100 * value:.1f}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def unit(metric: Metric) -> str:
    return "%" if metric.key in SHARES else metric.unit


def shown(value: float | None, key: str) -> str:
    """The number with its unit."""
    metric = METRICS[key]
    return "–" if value is None else f"{number(value, metric)} {unit(metric)}".strip()


def interval(low: float | None, high: float | None, metric: Metric) -> str:
    return "" if low is None or high is None else f"{number(low, metric)} to {number(high, metric)}"


def ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def ratio_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
