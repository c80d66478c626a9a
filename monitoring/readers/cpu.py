"""CPU shares from /proc/stat, load, and the mean frequency of the cores."""

from monitoring.readers.base import ProcFile, Reader, Reading, Roots, Values, read_number, read_text

IDLE, IOWAIT, STEAL = 3, 4, 7
FREQUENCY_EVERY_S = 5.0


class Cpu(Reader):
    name = "cpu"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.stat, self.load = ProcFile(roots.proc / "stat", 2**20), ProcFile(roots.proc / "loadavg")
        self._last: dict[str, list[int]] = {}
        self._frequency: tuple[float, float | None] = (-FREQUENCY_EVERY_S, None)
        self._state = self._describe()

    def read(self, now: float) -> Reading:
        values: Values = {}
        for line in self.stat.read().split(b"\n"):
            if not line.startswith(b"cpu"):
                break
            name, *fields = line.decode().split()
            # guest and guest_nice are in user and nice already
            self._shares(name, [int(each) for each in fields[:8]], values)
        load = self.load.read().split()
        for series, position in (("load1", 0), ("load5", 1), ("load15", 2)):
            values[series] = float(load[position]) if len(load) > 2 else None
        if now - self._frequency[0] >= FREQUENCY_EVERY_S:
            self._frequency = (now, self._mean_frequency())
        values["cpu_frequency_mhz"] = self._frequency[1]
        return Reading(values, {"cpu": self._state})

    def close(self) -> None:
        self.stat.close()
        self.load.close()

    def _shares(self, name: str, ticks: list[int], values: Values) -> None:
        last = self._last.get(name)
        self._last[name] = ticks
        busy = iowait = steal = None
        if last is not None:
            spent = [max(new - old, 0) for new, old in zip(ticks, last, strict=False)]
            total = sum(spent)
            if total:
                busy = 100 * (total - spent[IDLE] - spent[IOWAIT]) / total
                iowait, steal = 100 * spent[IOWAIT] / total, 100 * spent[STEAL] / total
        if name == "cpu":
            values |= {"cpu_percent": busy, "cpu_iowait_percent": iowait, "cpu_steal_percent": steal}
        else:
            values[f"cpu_core_percent{{core={name[3:]}}}"] = busy

    def _mean_frequency(self) -> float | None:
        folder = self.roots.sys / "devices/system/cpu"
        found = [read_number(path, 1e-3) for path in folder.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
        known = [each for each in found if each is not None]
        return sum(known) / len(known) if known else None

    def _describe(self) -> dict[str, object]:
        model, cores, threads = None, set(), 0
        package = ""
        for line in read_text(self.roots.proc / "cpuinfo").split("\n"):
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "processor":
                threads += 1
            elif key in {"model name", "Model", "Hardware"} and model is None:
                model = value
            elif key == "physical id":
                package = value
            elif key == "core id":
                cores.add((package, value))
        return {"model": model, "n_cores": len(cores) or None, "n_threads": threads or None}
