"""How fast the models of a host generated in a stretch of time, against before, and what else was otherwise then."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from monitoring import selectors
from monitoring.alerts.series import split_series
from monitoring.analysis.causes import (
    METRICS,
    SPEED,
    Explanation,
    Times,
    explain,
    models_of,
    part_of,
    rest_of,
)
from monitoring.analysis.speed import load_classes, slow_part
from monitoring.analysis.usual import DAY_S, HOUR_S, MINUTE_S
from monitoring.models import Event
from monitoring.selectors import Answer
from monitoring.store.retention import MINUTES_KEPT_S

REFERENCE_S = 7 * DAY_S
LOAD, TOTAL = "gateway_running", "gateway_tokens_per_s"
LONG_S = 3 * DAY_S  # from here on hours say enough


def explanations(
    host: str, start: int, end: int, *, now: float, earlier_s: int = 0, earlier: str = ""
) -> list[Explanation]:
    """Of each model that generated something in [start, end). Compared with the same time `earlier_s` before, called
    `earlier`; without that with the 7 days before."""
    names = selectors.series_names(host)
    models = models_of(names)
    if not models:
        return []
    asked = [name for name in names if split_series(name)[0] in (*METRICS, SPEED, LOAD)]
    first, last = (start - earlier_s, end - earlier_s) if earlier_s else (start - REFERENCE_S, start)
    tier = HOUR_S if end - start > LONG_S or now - first > MINUTES_KEPT_S else MINUTE_S
    shown = selectors.read(host, asked, start - start % tier, end, tier)
    active = [model for model in models if shown.series[_speed(model)].count.any()]
    if not active:
        return []
    past = selectors.read(host, asked, first - first % tier, last, tier)
    reference = earlier or f"in the {REFERENCE_S // DAY_S} days before"
    return [_explained(host, model, shown, past, reference) for model in active]


def _explained(host: str, model: str, shown: Answer, past: Answer, reference: str) -> Explanation:
    """Of all of the time; of the slow part of it where the whole is not slower."""
    now, before = _times(host, model, shown), _times(host, model, past)
    whole = explain(model, now, before, reference)
    if whole.is_slower or (part := slow_part(now.speed)) is None:
        return whole
    span = shown.start + part.start * shown.step, shown.start + part.stop * shown.step
    n_active = int(np.isfinite(now.speed[part]).sum())
    of_part = part_of(now, part, _loads_per_h(host, model, *span, n_active * shown.step))
    if whole.speed is None:  # a model that is new here
        before, reference = rest_of(now, part, now.loads_per_h), "in the rest of this time"
    found = explain(model, of_part, before, reference)
    return replace(found, part=span) if found.is_slower else whole


def why(host: str, series: str, start: int, now: float) -> list[Explanation]:
    """Of the models that generate slower since `start`, where `series` is of their speed; of one model where it is one's own."""
    metric, labels = split_series(series)
    if metric not in (SPEED, TOTAL):
        return []
    of_host = explanations(host, start, int(now), now=now)
    return [each for each in of_host if each.is_slower and labels.get("model", each.model) == each.model]


def _speed(model: str) -> str:
    return f"{SPEED}{{model={model}}}"


def _times(host: str, model: str, answer: Answer) -> Times:
    speed = answer.series[_speed(model)].mean
    running = answer.series.get(LOAD)
    loads = load_classes(running.high if running is not None else np.full(len(speed), np.nan))
    others = {name: buckets.mean for name, buckets in answer.series.items()}
    end = answer.start + answer.step * len(speed)
    worked_s = int(np.isfinite(speed).sum()) * answer.step
    return Times(speed, loads, others, _loads_per_h(host, model, answer.start, end, worked_s))


def _loads_per_h(host: str, model: str, start: int, end: int, worked_s: int) -> float | None:
    """How often it was loaded for each hour in which it worked."""
    if not worked_s:
        return None
    span = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
    found = Event.objects.filter(host=host, kind="model", at__gte=span[0], at__lt=span[1])
    n = sum(found.filter(text__startswith=f"{model} {word}").count() for word in ("loaded", "reloaded"))
    return n / (worked_s / HOUR_S)
