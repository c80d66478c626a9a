"""What one call of the load generator measured.

All instants are ms since the generator's start on a monotonic clock; `started_at` is that start on the wall clock. `N` comes from
the server (`eval_count`, or OpenAI's usage); pieces of a stream are never counted as tokens.

Window. Closed loop (latency, throughput, users): from the end of the last warm-up request (the `n_warmup`-th to end) to the
instant at which the first stream finds no work left; a request is measured when it ends inside. The others that still
run then are read to their end, because their tokens inside the window count, and are not measured. Open loop: from the
scheduled instant of the first request after warm-up to one mean gap after the last; a request is measured when it is
scheduled inside.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from benchmarks.load.plan import Plan

MAX_GAPS = 200_000  # gaps between chunks that a result keeps, over all requests


class Status(StrEnum):
    OK = "ok"
    TIMEOUT = "timeout"  # not done within `timeout_s`
    CONNECTION = "connection"  # no connection, or it broke before the answer began
    HTTP = "http"  # an HTTP status other than 200: see `http_status`
    ENGINE = "engine"  # an error told inside the stream
    BROKEN = "broken"  # the stream ended, or turned into something else, before it said that it is done
    CUT = "cut"  # stopped by the load generator itself; no error of the engine


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Requests(_Frozen):
    """One entry per request in each list, in the order of sending. None: it never happened, or the server did not tell."""

    prompt_id: list[str]
    stream: list[int]  # which stream or user sent it; -1 in an open loop
    measured: list[bool]  # belongs to the window, failed ones included
    status: list[Status]
    error: list[str | None]  # one sentence
    http_status: list[int | None]
    done_reason: list[str | None]  # "stop", "length", ...
    scheduled_ms: list[float]  # t0
    sent_ms: list[float | None]  # ts
    first_ms: list[float | None]  # t1: first chunk with text, thinking or a tool call
    first_answer_ms: list[float | None]  # tc: first chunk with text or a tool call
    last_ms: list[float | None]  # tn
    done_ms: list[float | None]  # td: the stream said that it is done; of a failed request: when it failed
    n_tokens: list[int | None]  # N
    n_prompt: list[int | None]
    n_cached: list[int | None]  # prompt tokens from the server's cache
    total_duration_ms: list[float | None]  # what the server tells about its own time
    load_duration_ms: list[float | None]
    prompt_duration_ms: list[float | None]
    eval_duration_ms: list[float | None]
    gaps_ms: list[list[float]]  # between chunks with content; empty beyond MAX_GAPS in total


class Harness(_Frozen):
    """What measuring cost, from the first request sent to the last one read."""

    cpu_s: float
    cpu_share: float  # of one core
    lag_p50_ms: float | None  # how late the event loop's own timer came; None: too short to tell
    lag_p99_ms: float | None
    rss_bytes: int
    n_chunks: int  # pieces read from sockets


class Window(_Frozen):
    start_ms: float
    end_ms: float

    @property
    def seconds(self) -> float:
        return max(self.end_ms - self.start_ms, 0.0) / 1000


class Result(_Frozen):
    plan: Plan  # without key and headers
    started_at: datetime  # aware, UTC
    complete: bool
    notes: list[str]  # what a reader has to know, e.g. that scenes were described instead of shown
    requests: Requests
    window: Window | None  # None: no request got past the warm-up
    harness: Harness
