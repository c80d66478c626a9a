"""Memory and swap from /proc/meminfo and /proc/vmstat."""

import os

from monitoring.readers.base import ProcFile, Rates, Reader, Reading, Roots, Values

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Memory(Reader):
    name = "memory"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.meminfo, self.vmstat = ProcFile(roots.proc / "meminfo"), ProcFile(roots.proc / "vmstat")
        self.rates = Rates()

    def read(self, now: float) -> Reading:
        kib: dict[bytes, int] = {}
        for line in self.meminfo.read().split(b"\n"):
            name, _, value = line.partition(b":")
            if value:
                kib[name] = int(value.split()[0])
        total, available = kib.get(b"MemTotal"), kib.get(b"MemAvailable")
        values: Values = {
            "memory_total_bytes": total * 1024 if total else None,
            "memory_available_bytes": available * 1024 if available is not None else None,
            "memory_used_bytes": None,
            "memory_used_percent": None,
        }
        if total and available is not None:
            values["memory_used_bytes"] = (total - available) * 1024
            values["memory_used_percent"] = 100 * (total - available) / total
        if b"SwapTotal" in kib:
            values["swap_total_bytes"] = kib[b"SwapTotal"] * 1024
            values["swap_used_bytes"] = (kib[b"SwapTotal"] - kib.get(b"SwapFree", 0)) * 1024
        text = self.vmstat.read()
        for key, series in ((b"pswpin ", "swap_in_bytes_per_s"), (b"pswpout ", "swap_out_bytes_per_s")):
            start = text.find(b"\n" + key)
            if start < 0:
                values[series] = None
                continue
            pages = int(text[start + 1 + len(key) :].split(b"\n", 1)[0])
            values[series] = self.rates.per_s(series, pages * PAGE_BYTES, now)
        return Reading(values)

    def close(self) -> None:
        self.meminfo.close()
        self.vmstat.close()
