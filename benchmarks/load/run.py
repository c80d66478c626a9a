"""The measurement itself: send as the plan says and tell progress."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from time import perf_counter
from typing import Any

from benchmarks.load.arrivals import arrival_times, think_times
from benchmarks.load.exchange import Client, Exchange
from benchmarks.load.harness import Watch
from benchmarks.load.plan import Plan
from benchmarks.load.prepare import prepare
from benchmarks.load.result import Result, Status
from benchmarks.load.rows import as_requests, closed_window, mark_measured, open_window
from benchmarks.workloads.prompts import Prompt

Tell = Callable[[dict[str, Any]], None]
PROGRESS_S = 0.5
N_RECENT = 10  # progress is told over so many of them
MAX_IN_FLIGHT = 4096  # of an open loop; what is due beyond it is sent late, and the schedule lag shows it


class Measurement:
    """One plan, once. `run` may be cancelled at any time; `result` then holds what there is."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self.plan = plan
        self.tell = tell
        # A closed loop sends one more per further stream: when the first stream finds no work left, the others still
        # run, and as many as were asked for have ended by then.
        self.total = plan.warmup + plan.n_requests + (0 if plan.open_loop else plan.concurrency - 1)
        self.exchanges: list[Exchange] = []
        self.n_done = self.n_errors = self.n_tokens = self.n_lines = 0
        self.out_of_work: float | None = None
        self.complete = False
        self.notes: list[str] = []
        self.client = Client(plan)
        self.watch = Watch()
        self.started_at, self.started = datetime.now(UTC), perf_counter()

    async def run(self) -> None:
        """Raises NotReadyError; on cancellation stops what is under way and raises CancelledError."""
        async with self.client:
            prompts = await prepare(self.client, self.plan)
            self.notes, self.prompts = prompts.notes, prompts.source
            self.client.n_reads = self.client.n_lines = 0
            async with self.watch:
                self._tell_start()
                progress = asyncio.create_task(self._tell_progress())
                try:
                    await (self._open_loop() if self.plan.open_loop else self._closed_loop())
                    self.complete = True
                finally:
                    progress.cancel()

    async def _closed_loop(self) -> None:
        async with asyncio.TaskGroup() as streams:
            for number in range(self.plan.concurrency):
                streams.create_task(self._stream(number))

    async def _stream(self, number: int) -> None:
        free = self.started
        for thinks in think_times(self.plan.think_time_s, number, self.plan.seed):
            await _until(free + thinks)
            if len(self.exchanges) == self.total:
                break
            await self._send(*self._next(number, free + thinks))
            free = perf_counter()
        if self.out_of_work is None:
            self.out_of_work = perf_counter()

    async def _open_loop(self) -> None:
        assert self.plan.rate_per_s is not None
        times = arrival_times(self.plan.rate_per_s, self.plan.arrivals, self.plan.seed)
        slots = asyncio.Semaphore(MAX_IN_FLIGHT)

        async def request(exchange: Exchange, prompt: Prompt) -> None:
            async with slots:
                await self._send(exchange, prompt)

        async with asyncio.TaskGroup() as requests:
            for at in islice(times, self.total):
                await _until(self.started + at)
                requests.create_task(request(*self._next(-1, self.started + at)))

    def _next(self, stream: int, due: float) -> tuple[Exchange, Prompt]:
        prompt = next(self.prompts)
        self.exchanges.append(Exchange(prompt.id, stream, due))
        return self.exchanges[-1], prompt

    async def _send(self, exchange: Exchange, prompt: Prompt) -> None:
        await self.client.send(exchange, prompt, self.plan.limit)
        self.n_done += 1
        self.n_errors += exchange.status is not Status.OK
        self.n_tokens += exchange.answer.n_tokens or 0
        self.n_lines += exchange.n_lines

    def _tell_start(self) -> None:
        self.started_at, self.started = datetime.now(UTC), perf_counter()
        start = {"model": self.plan.model, "started_at": self.started_at.isoformat()}
        self.tell({"type": "started", **start, "total": self.total, "notes": self.notes})

    async def _tell_progress(self) -> None:
        recent: deque[tuple[float, int, int]] = deque([(self.started, 0, 0)], maxlen=N_RECENT + 1)
        while True:
            await asyncio.sleep(PROGRESS_S)
            recent.append((perf_counter(), self.n_done, self.client.n_lines))
            seconds = recent[-1][0] - recent[0][0]
            # Lines are no tokens: how many tokens a line is worth is known from the requests that have ended.
            per_line = self.n_tokens / self.n_lines if self.n_lines else 0.0
            self.tell(
                {
                    "type": "progress",
                    "done": self.n_done,
                    "total": self.total,
                    "errors": self.n_errors,
                    "tokens_per_s": round((recent[-1][2] - recent[0][2]) * per_line / seconds, 2),
                    "requests_per_s": round((recent[-1][1] - recent[0][1]) / seconds, 3),
                    "elapsed_s": round(recent[-1][0] - self.started, 2),
                }
            )

    def result(self) -> Result:
        """After `run` has ended, in whichever way."""
        stopped = perf_counter()
        if self.plan.open_loop:
            window = open_window(self.exchanges, self.plan, None if self.complete else stopped)
        else:
            window = closed_window(self.exchanges, self.plan, self.out_of_work or stopped)
        measured = mark_measured(self.exchanges, self.plan, window)
        return Result(
            plan=self.plan.public(),
            started_at=self.started_at,
            complete=self.complete,
            notes=self.notes,
            requests=as_requests(self.exchanges, measured, self.started),
            window=None if window is None else window.since(self.started),
            harness=self.watch.report(self.client.n_reads),
        )


async def _until(due: float) -> None:
    if (wait := due - perf_counter()) > 0:
        await asyncio.sleep(wait)
