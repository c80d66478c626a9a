"""What a person asks of a distillation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MIN_PROMPTS = 16  # of the labelled set: half of them judge
Answers = Literal["teacher", "labelled"]
Choice = Literal["spread", "measured"]


class Distillation(BaseModel):
    """The fields of the form and the options of the command; their ranges are those of both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1, le=1000, description="layers of the student")
    steps: int = Field(200, ge=1, le=1_000_000, description="steps of training, of each of the two")
    temperature: float = Field(2.0, ge=0.1, le=100, description="temperature of the distributions")
    alpha: float = Field(
        0.9, ge=0.01, le=1, description="weight of the teacher's distributions; the rest is cross-entropy"
    )
    batch: int = Field(8, ge=1, le=1024, description="prompts a step")
    learning_rate: float = Field(1e-3, ge=1e-8, le=1, description="learning rate at its highest")
    seed: int = Field(1, ge=0, le=2**31 - 1, description="seed of the order of the prompts")
    answers: Answers = Field("teacher", description="answers that are trained on")
    choice: Choice = Field("spread", description="which layers stay")


def spread(n_layers: int, n_kept: int) -> tuple[int, ...]:
    """`n_kept` of the layers 0 to `n_layers` - 1 at even distances; the first and the last stay where two or more do."""
    if n_kept == 1:
        return (0,)
    return tuple(round(place * (n_layers - 1) / (n_kept - 1)) for place in range(n_kept))
