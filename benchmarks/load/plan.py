"""What the load generator is asked to do: one engine, one model, one way of sending.

A caller writes `plan.for_process()` to the stdin of `python -m benchmarks.load` and reads JSON lines from its stdout:

    {"type": "started", "model": str, "started_at": ISO 8601 in UTC, "total": int, "notes": [str]}
    {"type": "progress", "done": int, "total": int, "errors": int, "tokens_per_s": float, "requests_per_s": float,
     "elapsed_s": float}          about every 0.5 s; rates over the last 5 s, tokens estimated from the lines that came
    {"type": "result", "complete": bool, "result": {...}}   a `benchmarks.load.result.Result`; the last line

SIGTERM stops it within a second; the result then holds what was measured and `complete` is false. Exit codes: 0 a result
was printed (also after SIGTERM), 2 the plan is bad (stderr: one line `FIELD: what is wrong` per error), 3 the engine can't
be reached, doesn't know the model or refuses the request (stderr: one sentence).

Three kinds:

    latency      one request after the other
    throughput   `concurrency` streams, each sends its next request when the last one has ended
    load         with `rate_per_s`: requests arrive at that rate, whatever the engine does (open loop; `arrivals` says
                 how). Without: `concurrency` users who wait about `think_time_s` (exponential) between two requests.

Warm-up requests are the head of the same sending and are left out of the window (see result.py).
"""

import json
import math
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from benchmarks.workloads.sets import NAMES as WORKLOADS

Milliseconds = Annotated[float, Field(gt=0, le=3_600_000, allow_inf_nan=False)]
OWN_HEADERS = {"host", "content-length", "content-type", "transfer-encoding", "connection"}
OWN_OPTIONS = {"model", "messages", "prompt", "stream", "stream_options", "images"}


def default_warmup(n_requests: int, concurrency: int) -> int:
    """Requests to leave out at the start: 3, a tenth, or one per stream, whichever is most."""
    return max(3, math.ceil(n_requests / 10), concurrency)


class Slo(BaseModel):
    """Limits that a good request keeps, all that are given; in ms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft_ms: Milliseconds | None = None
    total_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None

    @property
    def given(self) -> bool:
        return any(limit is not None for limit in (self.ttft_ms, self.total_ms, self.tpot_ms))


class Plan(BaseModel):
    """One measurement. Fields are checked in this order; a check looks only at the fields above its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    url: str = Field(description="base URL of gateway, engine or cloud, without /api or /v1")
    api: Literal["ollama", "openai"] = "ollama"
    api_key: SecretStr | None = None
    model: str = Field(min_length=1, max_length=300)
    kind: Literal["latency", "throughput", "load"] = "latency"
    concurrency: int = Field(default=1, ge=1, le=1024, description="streams (throughput) or users (load)")
    rate_per_s: float | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)
    arrivals: Literal["constant", "poisson"] = "poisson"
    think_time_s: float = Field(default=0.0, ge=0, le=3600, allow_inf_nan=False)
    n_requests: int = Field(ge=1, le=100_000, description="requests inside the window")
    n_warmup: int | None = Field(default=None, le=10_000, description="None: `default_warmup`")
    workload: str | None = Field(default=None, description=f"a shipped set: {', '.join(WORKLOADS)}")
    prompt_tokens: int | None = Field(default=None, ge=1, le=1_000_000, description="instead of a set")
    output_tokens: int | None = Field(default=None, ge=1, le=1_000_000, description="with prompt_tokens")
    num_predict: int | None = Field(default=None, ge=1, le=1_000_000, description="most tokens of an answer")
    options: dict[str, Any] = Field(default_factory=dict, description="of the model, as its API names them")
    slo: Slo = Slo()
    timeout_s: float = Field(default=300.0, gt=0, le=3600, allow_inf_nan=False, description="per request")
    seed: int = Field(default=1, ge=0, le=2**63 - 1, description="of the order of prompts and of arrivals")
    nonce: bool = Field(
        default=True, description="start each prompt with a number of its own: no prefix cache"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each request; never stored")

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        try:
            parts = urlsplit(url.strip())
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"is no URL: {error}") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http:// or https:// address such as http://127.0.0.1:11435")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must not hold a user, password, query or fragment; keys go into api_key")
        return url.strip().rstrip("/").removesuffix("/v1").removesuffix("/api")

    @field_validator("concurrency")
    @classmethod
    def _is_one_in_sequence(cls, concurrency: int, info: ValidationInfo) -> int:
        if info.data.get("kind") == "latency" and concurrency != 1:
            raise ValueError("must be 1 for latency, which sends one request after the other")
        return concurrency

    @field_validator("rate_per_s")
    @classmethod
    def _is_for_load(cls, rate: float | None, info: ValidationInfo) -> float | None:
        if rate is None:
            return None
        if info.data.get("kind") not in {"load", None}:
            raise ValueError("belongs to kind 'load' only; leave it out")
        if info.data.get("concurrency", 1) != 1:
            raise ValueError("and concurrency exclude each other: arrivals at a rate, or a number of users")
        return rate

    @field_validator("think_time_s")
    @classmethod
    def _is_for_users(cls, think: float, info: ValidationInfo) -> float:
        if think and info.data.get("kind") not in {"load", None}:
            raise ValueError("belongs to kind 'load' only; leave it at 0")
        if think and info.data.get("rate_per_s") is not None:
            raise ValueError("and rate_per_s exclude each other: users who think, or arrivals at a rate")
        return think

    @field_validator("n_warmup")
    @classmethod
    def _covers_the_start(cls, n: int | None, info: ValidationInfo) -> int | None:
        if "n_requests" not in info.data:
            return n
        n_requests = info.data["n_requests"]
        if n is None:
            return default_warmup(n_requests, info.data.get("concurrency", 1))
        least = default_warmup(n_requests, 1)
        if n < least:
            raise ValueError(f"must be {least} or more: 3 requests and a tenth of n_requests are warm-up")
        return n

    @field_validator("workload")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in WORKLOADS:
            raise ValueError(f"must be one of {', '.join(WORKLOADS)}")
        return name

    @field_validator("prompt_tokens")
    @classmethod
    def _is_set_or_lengths(cls, n: int | None, info: ValidationInfo) -> int | None:
        if "workload" in info.data and (n is None) == (info.data["workload"] is None):
            raise ValueError("or workload: give one of them, and not both")
        return n

    @field_validator("output_tokens")
    @classmethod
    def _goes_with_prompt_tokens(cls, n: int | None, info: ValidationInfo) -> int | None:
        if "prompt_tokens" in info.data and (n is None) != (info.data["prompt_tokens"] is None):
            raise ValueError("and prompt_tokens belong together: give both, or a workload")
        return n

    @field_validator("num_predict")
    @classmethod
    def _is_not_said_twice(cls, n: int | None, info: ValidationInfo) -> int | None:
        if n is not None and info.data.get("output_tokens") is not None:
            raise ValueError("and output_tokens exclude each other")
        return n

    @field_validator("options")
    @classmethod
    def _leave_room(cls, options: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OWN_OPTIONS & options.keys()):
            raise ValueError(f"must not set {', '.join(taken)}; the load generator does")
        if "num_predict" in options or "max_tokens" in options:
            raise ValueError("must not limit the answer's length; use the field num_predict")
        try:
            json.dumps(options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"can't be written as JSON: {error}") from error
        return options

    @field_validator("headers")
    @classmethod
    def _are_sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name.lower() == "authorization":
                raise ValueError("must not hold Authorization; use api_key")
            if name.lower() in OWN_HEADERS:
                raise ValueError(f"must not set {name}; the load generator does")
            if not name or any(ord(each) < 32 or ord(each) > 126 for each in name + value) or " " in name:
                raise ValueError(f"{name!r} is no header: use plain ASCII letters on one line")
        return headers

    @property
    def open_loop(self) -> bool:
        return self.rate_per_s is not None

    @property
    def warmup(self) -> int:
        """`n_warmup`, default filled in."""
        assert self.n_warmup is not None
        return self.n_warmup

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer; None: the model ends by itself."""
        return self.output_tokens if self.output_tokens is not None else self.num_predict

    def for_process(self) -> str:
        """JSON for the load generator's stdin, the key included."""
        plain = self.model_dump(mode="json")
        if self.api_key is not None:
            plain["api_key"] = self.api_key.get_secret_value()
        return json.dumps(plain)

    def public(self) -> Self:
        """The plan without key and headers: what may be stored and shown."""
        return self.model_copy(update={"api_key": None, "headers": {}})


def explain(error: ValidationError) -> list[tuple[str, str]]:
    """(field, sentence) of each error, for a form or for stderr."""
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(str(part) for part in each["loc"]) or "plan"
        found.append((field, each["msg"].removeprefix("Value error, ")))
    return found
