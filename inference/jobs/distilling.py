"""How a student was trained and what its control says, in curves, tables and words."""

from dataclasses import dataclass
from typing import Any

from inference.jobs.pictures import Picture
from inference.models import Variant

STUDENT, CONTROL = "distilled", "control"
CALLED = {STUDENT: "distilled", CONTROL: "control (plain fine-tuning)"}
COLOURS = {STUDENT: "--s1", CONTROL: "--s3"}


@dataclass(frozen=True)
class Compared:
    """One measure of both on held-out prompts; `change`: the distilled one's less the control's."""

    name: str
    distilled: str
    control: str
    change: str
    verdict: str = ""


@dataclass(frozen=True)
class Step:
    """Losses after a step, as the table of the curve has them: training, held-out and KL of each of the two."""

    step: str
    losses: tuple[str, ...]


@dataclass(frozen=True)
class DistillationRecord:
    summary: str
    tested: str
    compared: tuple[Compared, ...]
    why: str
    pictures: tuple[Picture, ...]
    steps: tuple[Step, ...]
    resumed: str  # empty where it ran unbroken

    @property
    def as_lines(self) -> list[str]:
        """For the terminal."""
        rows = [
            f"  {each.name:<18} {each.distilled:>14} {each.control:>14}  {each.change}"
            for each in self.compared
        ]
        return [
            f"  {self.summary}",
            f"  {'held-out prompts':<18} {'distilled':>14} {'control':>14}  distilled less control",
            *rows,
            f"  {self.why}",
        ]


def distillation_of(variant: Variant) -> DistillationRecord | None:
    """None of a variant that was not distilled."""
    found = variant.measure("distillation")
    if not found:
        return None
    against = found["against"]
    kept = ", ".join(map(str, found["kept"]))
    source = "the teacher's greedy answers" if found["answers"] == "teacher" else "the set's own answers"
    how = "at even distances" if found["choice"] == "spread" else "by measured loss"
    return DistillationRecord(
        f"Layers {kept} of {found['n_layers']} stay (the first is 0), chosen {how}. {found['steps']:,} steps of "
        f"{found['batch']} prompts out of {found['n_examples']:,}, with {source}; temperature {found['temperature']:g}, "
        f"alpha {found['alpha']:g}, learning rate {found['learning_rate']:g}, seed {found['seed']}. The control has the same "
        "start, prompts, order and steps, and no teacher.",
        f"{against['n_positions']:,} positions of {against['n_prompts']:,} held-out prompts",
        tuple(_compared(against)),
        f"{against['why'][:1].upper()}{against['why'][1:]}.",
        _pictures(variant, found["curves"]),
        _steps(found["curves"]),
        f"It went on after {found['resumed_at']:,} of {2 * found['steps']:,} steps of an earlier job."
        if found["resumed_at"]
        else "",
    )


def _compared(against: dict[str, Any]) -> list[Compared]:
    found = []
    for name, key, form, sign, less_is_better in (
        ("KL from the teacher", "kl", "{:.3g}", "{:+.3g}", True),
        ("Same top token", "same_top", "{:.1%}", "{:+.1%}", False),
    ):
        each = against[key]
        if each is None:
            continue
        change, verdict = sign.format(each["value"]), ""
        if each["interval"]:
            low, high = each["interval"]
            change += f" [{sign.format(low)}, {sign.format(high)}]"
            if low > 0 or high < 0:
                verdict = "good" if (high < 0) == less_is_better else "bad"
        found.append(Compared(name, form.format(each["b"]), form.format(each["a"]), change, verdict))
    if score := against["score"]:
        shares = [f"[{low:.1%}, {high:.1%}]" for low, high in (score["candidate"], score["reference"])]
        verdict = ("good" if score["n_won"] > score["n_lost"] else "bad") if score["p"] < 0.05 else ""
        found.append(
            Compared(
                "Right answers",
                f"{score['n_right_candidate']} of {score['n']} {shares[0]}",
                f"{score['n_right_reference']} of {score['n']} {shares[1]}",
                f"{score['n_won']} won, {score['n_lost']} lost, p = {score['p']:.2g}",
                verdict,
            )
        )
    return found


def _pictures(variant: Variant, curves: dict[str, list[dict[str, Any]]]) -> tuple[Picture, ...]:
    """The losses, each of what it is trained on; and the divergence, the same of both."""
    losses = [
        _trace(name, curves[name], key, label, dash)
        for name in (STUDENT, CONTROL)
        for key, label, dash in (("train", "training", "dot"), ("held_out", "held out", "solid"))
    ]
    divergences = [_trace(name, curves[name], "kl", "held out", "solid") for name in (STUDENT, CONTROL)]
    first, last = ({name: curves[name][place] for name in curves} for place in (0, -1))

    def went(key: str) -> str:
        return ", ".join(
            f"{CALLED[name]} from {first[name][key]:.3g} to {last[name][key]:.3g}"
            for name in (STUDENT, CONTROL)
        )

    n = last[STUDENT]["step"]
    return (
        _picture(
            f"losses-{variant.name}",
            losses,
            "loss (nats per token)",
            f"Loss over {n:,} steps, each of what it is trained on, on held-out prompts: {went('held_out')} nats per token.",
        ),
        _picture(
            f"divergence-{variant.name}",
            divergences,
            "KL (nats per token)",
            f"Divergence from the teacher on held-out prompts over {n:,} steps: {went('kl')} nats per token.",
        ),
    )


def _picture(name: str, traces: list[dict[str, Any]], label: str, words: str) -> Picture:
    layout = {
        "height": 320,
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": label}, "type": "log", "tickformat": ".2~g", "nticks": 8},
        "legend": {"y": -0.28},
    }
    return Picture({"data": traces, "layout": layout, "name": name}, words)


def _trace(name: str, points: list[dict[str, Any]], key: str, label: str, dash: str) -> dict[str, Any]:
    told = [each for each in points if each[key] is not None]
    return {
        "x": [each["step"] for each in told],
        "y": [max(each[key], 1e-7) for each in told],
        "name": f"{name}, {label}",
        "mode": "lines+markers",
        "line": {"color": COLOURS[name], "width": 2, "dash": dash},
        "marker": {"size": 5, "color": COLOURS[name]},
    }


def _steps(curves: dict[str, list[dict[str, Any]]]) -> tuple[Step, ...]:
    pairs = zip(curves[STUDENT], curves[CONTROL], strict=True)
    return tuple(
        Step(
            f"{a['step']:,}",
            tuple(
                "–" if each[key] is None else f"{each[key]:.3g}"
                for each in (a, b)
                for key in ("train", "held_out", "kl")
            ),
        )
        for a, b in pairs
    )
