"""A distilled student beside its control, on held-out prompts: the finished files, asked by llama.cpp."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.quality.divergence import Top, kl, top
from inference.quality.labelled import Labelled, Score, score
from inference.quality.paired import Difference, difference
from inference.work.messages import WorkError, step
from inference.work.probe import probing, read_positions
from inference.work.prompts import ChatTemplate
from inference.work.quality import ANSWER_TOKENS

STUDENT, CONTROL = "distilled", "control"


@dataclass(frozen=True)
class Told:
    """Of one student: mean KL and share of same top tokens of each prompt, and whether each answer was right."""

    kl: list[float]
    same_top: list[float]
    right: list[bool]


@dataclass(frozen=True)
class Against:
    """Differences are the distilled one's less the control's, `a` the control's, `b` the distilled one's; None without a
    prompt. `score`: the control as the reference."""

    n_prompts: int
    n_positions: int
    kl: Difference | None
    same_top: Difference | None
    score: Score | None

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "why": verdict(self)}


def compare_with_control(
    teacher: Path, students: dict[str, Path], held_out: Sequence[Labelled], n_prompts: int, n_scored: int,
    *, n_tokens: int, num_ctx: int,
) -> Against:  # fmt: skip
    """`students`: the files of STUDENT and CONTROL. Raises WorkError."""
    template = ChatTemplate(teacher)
    prompts = [template.render(each.prompt) for each in held_out[:n_prompts]]
    with probing(teacher, num_ctx) as probe:
        positions = read_positions(probe, prompts, n_tokens)
        reference = [probe.distributions(tokens, start) for tokens, start in positions]
    step("compare with the control", 1, 3, "models")
    told: dict[str, Told] = {}
    for number, (name, file) in enumerate(students.items(), 2):
        with probing(file, num_ctx) as probe:
            found = [probe.distributions(tokens, start) for tokens, start in positions]
            right = [
                each.is_right(probe.answer(template.render(each.prompt), ANSWER_TOKENS))
                for each in held_out[:n_scored]
            ]
        pairs = [_both(p, q) for p, q in zip(reference, found, strict=True)]
        told[name] = Told(
            [float(np.mean([kl(p, q) for p, q in each])) for each in pairs if each],
            [float(np.mean([top(p) == top(q) for p, q in each])) for each in pairs if each],
            right,
        )
        step("compare with the control", number, 3, "models")
    student, control = told[STUDENT], told[CONTROL]
    if len(student.kl) != len(control.kl) or not student.kl:
        raise WorkError("The model says nothing to the held-out prompts, so that nothing can be compared.")
    return Against(
        len(student.kl),
        sum(len(each) for each in reference),
        difference(control.kl, student.kl),
        difference(control.same_top, student.same_top),
        score(control.right, student.right) if student.right else None,
    )


def _both(reference: Sequence[Top | None], found: Sequence[Top | None]) -> list[tuple[Top, Top]]:
    return [(p, q) for p, q in zip(reference, found, strict=True) if p is not None and q is not None]


def verdict(against: Against) -> str:
    """Whether distilling paid, in a sentence; the intervals decide."""
    found = against.kl
    if found is None or found.interval is None:
        text = "too few held-out prompts to say whether distilling beat plain fine-tuning"
    elif found.interval[1] < 0:
        text = "distilling beat plain fine-tuning: it is closer to the teacher beyond doubt"
    elif found.interval[0] > 0:
        text = "plain fine-tuning beat distilling: it is closer to the teacher beyond doubt"
    else:
        text = "distilling is not shown to beat plain fine-tuning: the interval of the difference in KL holds zero"
    if (answers := against.score) is None:
        return text
    if answers.p < 0.05:
        more = "more" if answers.n_won > answers.n_lost else "fewer"
        return f"{text}; {more} right answers (McNemar, p = {answers.p:.2g})"
    return f"{text}; no difference in right answers is shown (McNemar, p = {answers.p:.2g})"
