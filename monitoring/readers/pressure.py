"""Pressure stall information: the share of time in which somebody (`some`) or everybody (`full`) waited.

From the `total` counters (µs) of /proc/pressure, so that a second's value is that second's."""

from monitoring.readers.base import ProcFile, Rates, Reader, Reading, Roots, Values

WANTED = (("cpu", "some"), ("memory", "some"), ("memory", "full"), ("io", "some"), ("io", "full"))


class Pressure(Reader):
    name = "pressure"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.files = {kind: ProcFile(roots.proc / "pressure" / kind, 512) for kind in ("cpu", "memory", "io")}
        self.rates = Rates()

    def read(self, now: float) -> Reading:
        totals: dict[tuple[str, str], int] = {}
        for kind, file in self.files.items():
            for line in file.read().decode().split("\n"):
                word, _, rest = line.partition(" ")
                _, found, total = rest.partition("total=")
                if found:
                    totals[kind, word] = int(total)
        values: Values = {}
        for kind, word in WANTED:
            series = f"pressure_{kind}_{word}_percent"
            total_us = totals.get((kind, word))
            rate = None if total_us is None else self.rates.per_s(series, total_us, now)
            values[series] = None if rate is None else min(rate / 1e4, 100.0)
        return Reading(values)

    def close(self) -> None:
        for file in self.files.values():
            file.close()
