"""What measuring costs, measured: CPU time, memory, and how late the event loop is."""

import asyncio
import gc
from collections import deque
from time import perf_counter, process_time

import psutil

from benchmarks.load.result import Harness

EVERY_S = 0.02
MAX_LAGS = 200_000  # more than an hour; then the oldest go


class Watch:
    """`async with Watch() as watch`: garbage collection rests inside, so that it never stands between bytes and stamp."""

    def __init__(self) -> None:
        self.lags: deque[float] = deque(maxlen=MAX_LAGS)
        self.cpu_s = self.wall_s = 0.0

    async def __aenter__(self) -> "Watch":
        gc.collect()
        gc.freeze()
        gc.disable()
        self._wall, self._cpu = perf_counter(), process_time()
        self._task = asyncio.create_task(self._measure())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        self.cpu_s = process_time() - self._cpu
        self.wall_s = perf_counter() - self._wall
        gc.enable()
        gc.unfreeze()

    async def _measure(self) -> None:
        while True:
            due = perf_counter() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.lags.append(perf_counter() - due)

    def report(self, n_chunks: int) -> Harness:
        """After leaving it, or when it was never entered."""
        lags = sorted(max(each, 0.0) * 1000 for each in self.lags)
        return Harness(
            cpu_s=self.cpu_s,
            cpu_share=self.cpu_s / self.wall_s if self.wall_s else 0.0,
            lag_p50_ms=lags[len(lags) // 2] if lags else None,
            lag_p99_ms=lags[len(lags) * 99 // 100] if lags else None,
            rss_bytes=psutil.Process().memory_info().rss,
            n_chunks=n_chunks,
        )
