"""The picture of all variants of a model: size against quality, with the ones that nothing beats."""

from collections.abc import Sequence
from typing import Any

from inference.jobs import reports
from inference.jobs.pictures import Picture
from inference.models import Variant
from inference.prompt_sets.selectors import shipped

COLOURS = {"front": "--s1", "beaten": "--muted", "source": "--s3"}


def pareto(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which points no other one beats: smaller is better in each coordinate, and better in one at least."""
    return [
        not any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        for point in points
    ]


def size_against_loss(variants: Sequence[Variant]) -> list[Picture]:
    """Of one source, those whose loss was measured; the bubble's text has the speed. One picture for each prompt set: losses
    on different prompts don't compare."""
    sets: dict[str, list[Variant]] = {}
    for each in variants:
        if each.measure("quality", "kl", "value") is not None:
            sets.setdefault(_set_of(each), []).append(each)
    return [_picture(measured) for _, measured in sorted(sets.items())]


def _set_of(variant: Variant) -> str:
    """By content: a name may have meant another one before."""
    return str(variant.measure("quality", "prompts", "sha256") or shipped().sha256)


def _picture(measured: list[Variant]) -> Picture:
    points = [(float(each.size_bytes), float(each.measure("quality", "kl", "value"))) for each in measured]
    front = pareto(points)
    traces = []
    for name, wanted in (("nothing is smaller and closer", True), ("beaten by another", False)):
        chosen = [(each, at) for each, at, on in zip(measured, points, front, strict=True) if on == wanted]
        if chosen:
            traces.append(_trace(name, sorted(chosen, key=lambda pair: pair[1]), on_front=wanted))
    layout = {
        "height": 380,
        "hovermode": "closest",
        "xaxis": {"title": {"text": "size (MiB)"}, "rangemode": "tozero"},
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
        {"data": traces, "layout": layout, "name": f"variants-{source}-{prompts}"},
        f"Of {len(measured)} variants of {source} measured on the prompts {prompts}, nothing is both smaller and closer to the "
        f"source than {names}.",
    )


def _trace(name: str, chosen: list[tuple[Variant, tuple[float, float]]], *, on_front: bool) -> dict[str, Any]:
    colour = COLOURS["front" if on_front else "beaten"]
    intervals = [each.measure("quality", "kl", "interval") or [at[1], at[1]] for each, at in chosen]
    return {
        "x": [at[0] / 2**20 for _, at in chosen],
        "y": [max(at[1], 1e-7) for _, at in chosen],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - at[1] for (_, at), (_, high) in zip(chosen, intervals, strict=True)],
            "arrayminus": [at[1] - low for (_, at), (low, _) in zip(chosen, intervals, strict=True)],
            "color": colour,
            "thickness": 1,
        },
        "text": [each.form if each.quantization else each.name for each, _ in chosen],
        "customdata": [[each.name, _speed(each), _right(each)] for each, _ in chosen],
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{x:.2f} MiB, KL %{y:.2g}<br>writing %{customdata[1]}<br>"
        "right answers %{customdata[2]}<extra></extra>",
        "textposition": [("top center", "bottom center")[number % 2] for number in range(len(chosen))],
        "cliponaxis": False,  # the names of the largest and the smallest
        "mode": "markers+text+lines" if on_front else "markers+text",
        "line": {"color": colour, "width": 1, "dash": "dot"},
        "marker": {"color": colour, "size": 11},
        "name": name,
    }


def _speed(variant: Variant) -> str:
    ratio = variant.measure("speed", "decode_tokens_per_s", "ratio")
    return reports.UNKNOWN if ratio is None else f"{ratio:.2f} x the source"


def _right(variant: Variant) -> str:
    score = variant.measure("score")
    return (
        reports.UNKNOWN
        if not score
        else f"{score['n_right_candidate']} of {score['n']} ({reports.prompts_of(score)})"
    )
