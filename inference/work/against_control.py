"""A distilled student beside its control, on held-out prompts: the finished files, asked by llama.cpp."""

from collections.abc import Callable, Sequence
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
    teacher: Path, files: tuple[Path, Path], held_out: Sequence[Labelled], n_prompts: int, n_scored: int,
    *, n_tokens: int, num_ctx: int,
) -> Against:  # fmt: skip
    """`files`: of the distilled student and of the control. Raises WorkError."""
    template = ChatTemplate(teacher)
    prompts = [template.render(each.prompt) for each in held_out[:n_prompts]]
    with probing(teacher, num_ctx) as probe:
        positions = read_positions(probe, prompts, n_tokens)
        reference = [probe.distributions(tokens, start) for tokens, start in positions]
    step("compare with the control", 1, 3, "models")
    asked, right = [reference], []
    for number, file in enumerate(files, 2):
        with probing(file, num_ctx) as probe:
            asked.append([probe.distributions(tokens, start) for tokens, start in positions])
            right.append(
                [
                    each.is_right(probe.answer(template.render(each.prompt), ANSWER_TOKENS))
                    for each in held_out[:n_scored]
                ]
            )
        step("compare with the control", number, 3, "models")
    # Only where all three tell something (see Probe.distributions), so that the two are compared at the same positions.
    places = [
        [
            (p, q, r)
            for p, q, r in zip(*each, strict=True)
            if p is not None and q is not None and r is not None
        ]
        for each in zip(*asked, strict=True)
    ]
    if not any(places):
        raise WorkError("The model says nothing to the held-out prompts, so that nothing can be compared.")
    return weighed(places, *right)


Places = Sequence[Sequence[tuple[Top, Top, Top]]]  # of each prompt: what teacher, distilled and control say


def weighed(prompts: Places, distilled_right: Sequence[bool], control_right: Sequence[bool]) -> Against:
    """Means of each prompt, for the positions of one prompt resemble each other; intervals over prompts."""
    prompts = [each for each in prompts if each]

    def means(of: Callable[[Top, Top], float], which: int) -> list[float]:
        return [float(np.mean([of(place[0], place[which]) for place in each])) for each in prompts]

    def same(p: Top, q: Top) -> float:
        return float(top(p) == top(q))

    return Against(
        len(prompts),
        sum(map(len, prompts)),
        difference(means(kl, 2), means(kl, 1)),
        difference(means(same, 2), means(same, 1)),
        score(control_right, distilled_right) if distilled_right else None,
    )


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
