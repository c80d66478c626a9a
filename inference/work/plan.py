"""What a job is told, as JSON on its standard input."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from inference.distillation.settings import Distillation
from inference.quality.labelled import Labelled

DYNAMIC = "dynamic"  # the level that chooses a type for each tensor
Kind = Literal["quantize", "prune", "distill", "measure", "archive", "unarchive"]
Packing = Literal["gzip", "zstd"]
Maker = Literal["auto", "engine", "own", "llama-quantize"]


class Measures(BaseModel):
    """How thoroughly source and variant are compared. A count of 0 leaves that measure out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_prompts: int = Field(
        24, ge=0, le=500, description="prompts whose continuations are compared token by token"
    )
    n_tokens: int = Field(48, ge=1, le=512, description="tokens of each continuation")
    n_scored: int = Field(100, ge=0, le=5000, description="labelled prompts that both models answer")
    n_pairs: int = Field(6, ge=0, le=100, description="pairs of turns for the speed")
    num_predict: int = Field(64, ge=8, le=2048, description="tokens of an answer in the speed test")
    num_ctx: int = Field(2048, ge=256, le=1_048_576, description="context of both models")

    @property
    def with_prompts(self) -> bool:
        return bool(self.n_prompts or self.n_scored)


class Calibration(BaseModel):
    """What a model reads for its importance matrix: labelled prompts, or a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    labelled: tuple[Labelled, ...] = ()
    text: Path | None = None


class JobPlan(BaseModel):
    """`quantize`, `prune` and `distill` make `target` from `source` and measure both; `measure` compares two models that exist.
    `archive` packs `source` in `folder`, `unarchive` makes `target` from the file `archive`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    engine_url: str
    engine_kind: str  # its name
    source: str
    target: str
    level: str = ""
    maker: Maker = "auto"
    budget: str = "q4_K_M"  # of level dynamic: a size (see dynamic.budget_bytes), unless there is a max_loss
    max_loss: float | None = None
    importance: Path | None = None  # a matrix that is used, or where it is kept once it is collected from:
    calibration: Calibration | None = None
    layers: int | None = None  # that `prune` drops; None: as many as keep to max_loss
    distillation: Distillation | None = None
    checkpoints: Path = Path("/nonexistent")  # where training that is not over is kept (distillation.kept)
    job: int = 0
    folder: Path = Path("/nonexistent")  # empty, for what is being written; not needed to measure
    archive: Path = Path("/nonexistent")
    packing: Packing = "gzip"  # of the archive that is made
    measures: Measures = Measures()
    labelled: tuple[Labelled, ...] = ()

    @property
    def is_searched(self) -> bool:
        """Whether the second half of the prompts decides what is made, so that only the first may judge it."""
        return self.level == DYNAMIC or self.kind in {"prune", "distill"}
