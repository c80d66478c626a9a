"""The pictures of all variants of a model: size and speed against quality, each with the ones that nothing beats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from inference.jobs import reports
from inference.jobs.pictures import Picture
from inference.models import Variant
from inference.prompt_sets.selectors import shipped
from inference.sizes import size

COLOURS = {"front": "--s1", "beaten": "--muted"}
LEAST_KL = 1e-7  # what the axis of logarithms shows of a loss of nothing
Reach = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What stands against the loss. `of`: None where it was not measured; `reach`: its interval, where it has one; `better`:
    in a word, `sign` -1 where more of it is."""

    name: str
    title: str
    better: str
    sign: int
    of: Callable[[Variant], float | None]
    reach: Callable[[Variant], Reach | None]
    layout: dict[str, Any]


SIZE = Axis(
    "size",
    "size (MiB)",
    "smaller",
    1,
    lambda variant: variant.size_bytes / 2**20,
    lambda variant: None,
    {},
)
SPEED = Axis(
    "speed",
    "writing speed (times the source's)",
    "faster",
    -1,
    lambda variant: variant.measure("speed", "decode_tokens_per_s", "ratio"),
    lambda variant: variant.measure("speed", "decode_tokens_per_s", "interval"),
    {
        # as fast as the source
        "shapes": [
            {
                "type": "line",
                "x0": 1,
                "x1": 1,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": "--muted", "width": 1, "dash": "dot"},
            }
        ]
    },
)


def pareto(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which points no other one beats: smaller is better in each coordinate, and better in one at least."""
    return [
        not any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        for point in points
    ]


def pictures_of(variants: Sequence[Variant]) -> list[Picture]:
    """Of one source, those whose loss was measured: size against it and, of those that were timed, speed against it. For each
    prompt set by itself: losses on different prompts don't compare."""
    sets: dict[str, list[Variant]] = {}
    for each in variants:
        if each.measure("quality", "kl", "value") is not None:
            sets.setdefault(_set_of(each), []).append(each)
    return [
        _picture(axis, known)
        for _, measured in sorted(sets.items())
        for axis in (SIZE, SPEED)
        if (known := [each for each in measured if axis.of(each) is not None])
    ]


def _set_of(variant: Variant) -> str:
    """By content: a name may have meant another one before."""
    return str(variant.measure("quality", "prompts", "sha256") or shipped().sha256)


def _loss(variant: Variant) -> float:
    return float(variant.measure("quality", "kl", "value"))


def _picture(axis: Axis, measured: list[Variant]) -> Picture:
    front = pareto([(axis.sign * float(axis.of(each) or 0), _loss(each)) for each in measured])
    # From nothing on, and so far that an interval of few pairs does not press all the rest together.
    furthest = 1.5 * max(float(axis.of(each) or 0) for each in measured)
    traces = []
    for on_front, name in ((True, f"nothing is {axis.better} and closer"), (False, "beaten by another")):
        if chosen := [each for each, on in zip(measured, front, strict=True) if on == on_front]:
            chosen.sort(key=lambda each: (axis.of(each) or 0, _loss(each)))
            traces.append(_trace(axis, name, chosen, furthest, on_front=on_front))
    layout = {
        "height": 380,
        "hovermode": "closest",
        **axis.layout,
        "xaxis": {"title": {"text": axis.title}, "rangemode": "tozero"},
        "yaxis": {
            "title": {"text": "KL from the source (nats per token)"},
            "type": "log",
            "dtick": 1,
            "exponentformat": "power",
        },
    }
    names = ", ".join(each.name for each, on in zip(measured, front, strict=True) if on)
    source, prompts = measured[0].source, reports.prompts_of(measured[0].measure("quality"))
    return Picture(
        {"data": traces, "layout": layout, "name": f"variants-{axis.name}-{source}-{prompts}"},
        f"Of {len(measured)} variants of {source} measured on the prompts {prompts}, nothing is both {axis.better} and closer "
        f"to the source than {names}.",
    )


def _trace(
    axis: Axis, name: str, chosen: list[Variant], furthest: float, *, on_front: bool
) -> dict[str, Any]:
    colour = COLOURS["front" if on_front else "beaten"]
    x, losses = [float(axis.of(each) or 0) for each in chosen], list(map(_loss, chosen))
    return {
        "x": x,
        "y": [max(each, LEAST_KL) for each in losses],
        "error_x": _reach(x, [_within(axis.reach(each), furthest) for each in chosen], colour),
        "error_y": _reach(losses, [each.measure("quality", "kl", "interval") for each in chosen], colour),
        "text": [each.form if each.quantization else each.name for each in chosen],
        "customdata": [[each.name, size(each.size_bytes), _speed(each), _right(each)] for each in chosen],
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]}, KL %{y:.2g}<br>writing %{customdata[2]}<br>"
        "right answers %{customdata[3]}<extra></extra>",
        "textposition": [("top center", "bottom center")[number % 2] for number in range(len(chosen))],
        "cliponaxis": False,  # the names of the largest and the smallest
        "mode": "markers+text+lines" if on_front else "markers+text",
        "line": {"color": colour, "width": 1, "dash": "dot"},
        "marker": {"color": colour, "size": 11},
        "name": name,
    }


def _within(reach: Reach | None, furthest: float) -> Reach | None:
    return reach and (reach[0], min(reach[1], furthest))


def _reach(values: list[float], intervals: Sequence[Reach | None], colour: str) -> dict[str, Any]:
    """Error bars; none where there is no interval."""
    known = [each or (value, value) for value, each in zip(values, intervals, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, (_, high) in zip(values, known, strict=True)],
        "arrayminus": [value - low for value, (low, _) in zip(values, known, strict=True)],
        "color": colour,
        "thickness": 1,
    }


def _speed(variant: Variant) -> str:
    ratio = SPEED.of(variant)
    if ratio is None:
        return reports.UNKNOWN
    reach = SPEED.reach(variant)
    return f"{ratio:.2f} x the source" + (f" [{reach[0]:.2f}, {reach[1]:.2f}]" if reach else "")


def _right(variant: Variant) -> str:
    score = variant.measure("score")
    return (
        reports.UNKNOWN
        if not score
        else f"{score['n_right_candidate']} of {score['n']} ({reports.prompts_of(score)})"
    )
