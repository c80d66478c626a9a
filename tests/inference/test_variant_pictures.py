"""The pictures that people choose a variant by: what is on the front, what stands against the loss, and what is left out."""

from typing import Any

import pytest

from inference.jobs.charts import LEAST_KL, pareto, pictures_of
from inference.models import Variant


def variant(
    name: str, mib: float, kl: float | None, speed: float | None = None, prompts: str = ""
) -> Variant:
    measures: dict[str, Any] = {}
    if kl is not None:
        measures["quality"] = {"kl": {"value": kl, "interval": [kl / 2, kl * 2] if kl else None}}
        if prompts:
            measures["quality"]["prompts"] = {"name": prompts, "sha256": prompts}
    if speed is not None:
        measures["speed"] = {"decode_tokens_per_s": {"ratio": speed, "interval": [speed - 0.1, speed + 0.1]}}
    size = int(mib * 2**20)
    return Variant(name=name, quantization=name, source="m:f16", size_bytes=size, measures=measures)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 3), (2, 2), (3, 1)], [True, True, True]),
        ([(1, 3), (2, 3), (3, 1)], [True, False, True]),
        ([(1, 1), (1, 1)], [True, True]),  # equals do not beat each other
        ([(1, 2), (1, 1)], [False, True]),
    ],
)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]], front: list[bool]) -> None:
    assert pareto(points) == front


def test_size_and_speed_each_have_a_picture_with_a_front_of_their_own() -> None:
    size, speed = pictures_of(
        [
            variant("q8", 4, 0.001, 0.9),
            variant("q5", 3, 0.01, 1.5),
            variant("q4", 2, 0.02, 1.2),
            variant("q4-worse", 2.5, 0.03, 1.1),
            variant("untimed", 1, 0.5),
            variant("unmeasured", 1, None, 3.0),
        ]
    )
    front, beaten = size.plot["data"]
    assert (front["text"], front["x"]) == (["untimed", "q4", "q5", "q8"], [1, 2, 3, 4])
    assert beaten["text"] == ["q4-worse"]
    assert "nothing is both smaller and closer to the source than q8, q5, q4, untimed." in size.alternative
    front, beaten = speed.plot["data"]
    assert (front["text"], front["x"]) == (["q8", "q5"], [0.9, 1.5])
    assert front["error_x"]["array"] == pytest.approx([0.1, 0.1])
    assert front["error_y"]["arrayminus"] == pytest.approx([0.0005, 0.005])
    assert beaten["text"] == ["q4-worse", "q4"]
    assert speed.alternative.startswith("Of 4 variants of m:f16")
    assert "nothing is both faster and closer to the source than q8, q5." in speed.alternative
    assert size.plot["name"] != speed.plot["name"]


def test_losses_on_different_prompts_are_not_compared() -> None:
    pictures = pictures_of([variant("a", 1, 0.1, prompts="hall"), variant("b", 2, 0.2, prompts="attic")])
    assert [each.plot["data"][0]["text"] for each in pictures] == [["b"], ["a"]]


def test_a_loss_of_nothing_is_drawn_on_the_axis_of_logarithms() -> None:
    (picture,) = pictures_of([variant("twin", 1, 0.0)])
    assert picture.plot["data"][0]["y"] == [LEAST_KL]
    assert picture.plot["data"][0]["error_y"]["array"] == [0.0]
    assert pictures_of([variant("unmeasured", 1, None)]) == []


def test_an_interval_of_few_pairs_does_not_press_the_rest_together() -> None:
    wide = variant("wide", 1, 0.1, 0.8)
    wide.measures["speed"]["decode_tokens_per_s"]["interval"] = [0.01, 370.0]
    _, speed = pictures_of([wide, variant("other", 2, 0.01, 2.0)])
    reaches = {
        text: (x + more, about[2])
        for trace in speed.plot["data"]
        for text, x, more, about in zip(
            trace["text"], trace["x"], trace["error_x"]["array"], trace["customdata"], strict=True
        )
    }
    assert reaches["wide"] == (pytest.approx(3.0), "0.80 x the source [0.01, 370.00]")
    assert reaches["other"][0] == pytest.approx(2.1)
