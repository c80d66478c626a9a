"""The training of a distillation job: both students one after the other, from their checkpoints where there are any."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inference.distillation import checkpoints
from inference.distillation.files import read_weights, write_student
from inference.distillation.kept import Keeper
from inference.distillation.llama import student_of, teacher_of
from inference.distillation.settings import Distillation
from inference.distillation.shape import Shape
from inference.distillation.training import Progress, Training, be_repeatable
from inference.gguf_tools.container import Header
from inference.work.against_control import CONTROL, STUDENT
from inference.work.messages import step
from inference.work.training_data import Data

DOING = {STUDENT: "train the student", CONTROL: "train the control"}


def train_both(
    keeper: Keeper,
    file: Path,
    header: Header,
    shape: Shape,
    wanted: Distillation,
    data: Data,
    files: dict[str, Path],
) -> dict[str, Any]:
    """Writes `files`; `resumed_at`: steps of both that an earlier job did. Raises OSError."""
    be_repeatable(max(len(os.sched_getaffinity(0)) // 2, 1))
    teacher = teacher_of(shape, read_weights(file, header))
    resumed, curves = 0, {}
    for number, (name, alpha) in enumerate(((STUDENT, wanted.alpha), (CONTROL, 0.0))):
        training = Training(
            student_of(teacher, data.kept),
            teacher,
            data.examples,
            data.held_out,
            wanted,
            alpha,
            tell=_teller(DOING[name], wanted.steps),
            save=checkpoints.saving(keeper, name, number * wanted.steps),
        )
        resumed += checkpoints.load(keeper, name, training)
        training.run()
        curves[name] = [asdict(each) for each in training.points]
        weights = {key: each.detach().numpy() for key, each in training.student.weights.items()}
        write_student(file, files[name], data.kept, weights)
    return {"resumed_at": resumed, "curves": curves}


def _teller(name: str, total: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        step(
            name,
            progress.step,
            total,
            "steps",
            loss=progress.loss,
            tokens_per_s=progress.tokens_per_s,
            eta_s=progress.eta_s,
        )

    return tell
