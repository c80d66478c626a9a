"""`make bench`: figures beside the ones to reach, and beside a peer or floor measured in the same run."""

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Row:
    """One measured figure. `reach`: the largest value that is good enough; None for a peer or floor."""

    what: str
    value: float
    unit: str
    reach: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        return None if self.reach is None else self.value <= self.reach


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of the process and those children that have ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def cpu_s_per_minute(process: psutil.Process, seconds: float, settle_s: float = 5.0) -> float:
    """CPU seconds that it uses in a minute of steady work."""
    time.sleep(settle_s)
    before, started = cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(process) - before) / (time.monotonic() - started) * 60


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]
