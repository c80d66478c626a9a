"""What a run is asked to do: one checked value that the form, the command and the database share."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.load.plan import Slo, default_warmup
from benchmarks.statistics.rounds import take_turns

Kind = Literal["latency", "throughput", "load"]
Workload = Literal["image_analysis", "task_generation", "mixed"]

MAX_MODELS, MAX_ROUNDS, MAX_REQUESTS, MAX_CONCURRENCY = 8, 50, 1000, 256
MAX_TOTAL = 50_000  # requests of a whole run: more fills the disk and no evening is that long


class Parameters(BaseModel):
    """Either `workload` (a shipped prompt set) or `prompt_tokens` and `output_tokens`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = Field("gateway", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    url: str = ""  # of engine "cloud"; the others have theirs
    key_variable: str = (
        ""  # name of the environment variable with the API key; the key itself is kept nowhere
    )
    models: tuple[str, ...] = Field(min_length=1, max_length=MAX_MODELS)
    kind: Kind = "latency"
    workload: Workload | None = "mixed"
    prompt_tokens: int | None = Field(None, ge=1, le=100_000)
    output_tokens: int | None = Field(None, ge=1, le=100_000)
    n_rounds: int = Field(6, ge=1, le=MAX_ROUNDS)
    n_requests: int = Field(10, ge=1, le=MAX_REQUESTS)
    n_warmup: int | None = Field(None, ge=0, le=1000)  # None: as the load generator thinks right
    concurrency: int = Field(1, ge=1, le=MAX_CONCURRENCY)  # of "load": the simulated users
    rate_per_s: float | None = Field(None, gt=0, le=1000)
    think_time_s: float = Field(0, ge=0, le=600)
    num_predict: int | None = Field(None, ge=1, le=100_000)
    num_ctx: int | None = Field(None, ge=1, le=1_048_576)
    temperature: float | None = Field(None, ge=0, le=2)
    slo: Slo = Slo()
    timeout_s: float = Field(120, gt=0, le=3600)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def is_whole(self) -> "Parameters":
        if len(set(self.models)) != len(self.models):
            raise ValueError("models: each model once")
        if self.workload is None and (self.prompt_tokens is None or self.output_tokens is None):
            raise ValueError("give a workload, or prompt_tokens and output_tokens")
        if self.n_total > MAX_TOTAL:
            raise ValueError(
                f"{self.n_total} requests in all are more than {MAX_TOTAL}: fewer rounds, requests or models"
            )
        if self.engine == "cloud" and not self.url:
            raise ValueError("url: an OpenAI-compatible engine needs its address")
        return self

    @property
    def n_total(self) -> int:
        """Measured requests of the whole run; the warm-up comes on top."""
        return self.n_rounds * self.n_requests * len(self.models)

    @property
    def warmup(self) -> int:
        """Requests before each round that do not count."""
        return default_warmup(self.n_requests, self.concurrency) if self.n_warmup is None else self.n_warmup

    @property
    def options(self) -> dict[str, Any]:
        """Engine options as Ollama names them, without what was left to the engine."""
        found = {"num_ctx": self.num_ctx, "temperature": self.temperature}
        return {name: value for name, value in found.items() if value is not None}

    def order(self) -> list[tuple[int, str]]:
        """(round, model) in the order of measuring."""
        return take_turns(self.models, self.n_rounds)
