"""Which process runs a model: the one with the model's file on its command line, whoever the engine is, and what it takes."""

import os
from dataclasses import dataclass, field

from monitoring.kv_cache import Cache, cache_of
from monitoring.readers.base import PAGE_BYTES, Rates, Roots

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

LOOK_EVERY_S = 5.0


@dataclass
class Runners:
    roots: Roots
    _pids: dict[str, int] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _ticks: Rates = field(default_factory=Rates)

    def find(self, path: str, now: float) -> int | None:
        """Process id; None when there is none on this machine, or it is not ours to see. `path`: of the model's blob, as the
        engine has it. Another engine may run the same blob from a folder of its own: the whole path counts, and only where no
        process has that (a container sees other folders), the blob's name, if just one process has it."""
        pid = self._pids.get(path)
        name = path.rpartition("/")[2]
        if pid is not None and name in self._command(str(pid)):
            return pid
        self._pids.pop(path, None)
        if now - self._looked_at >= LOOK_EVERY_S:  # each process costs a file
            self._looked_at = now
            found = {
                int(entry.name): command
                for entry in self.roots.proc.iterdir()
                if entry.name.isdigit() and name in (command := self._command(entry.name))
            }
            whole = [pid for pid, command in found.items() if path in command]
            if whole or len(found) == 1:
                self._pids[path] = min(whole or found)
        return self._pids.get(path)

    def memory_bytes(self, pid: int) -> int | None:
        """Resident: what is mapped of the model's file included."""
        try:
            return int((self.roots.proc / str(pid) / "statm").read_bytes().split()[1]) * PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return None

    def cpu_percent(self, pid: int, now: float) -> float | None:
        """Share of all cores since it was asked last; None at first."""
        try:
            fields = (self.roots.proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            return None
        rate = self._ticks.per_s(str(pid), ticks, now)
        return None if rate is None else 100 * rate / TICKS_PER_S / (os.cpu_count() or 1)

    def cache(self, pid: int) -> Cache | None:
        """What its KV cache is made of; None where the process does not say."""
        try:
            raw = (self.roots.proc / str(pid) / "environ").read_bytes().decode(errors="replace")
            environment = dict(each.split("=", 1) for each in raw.split("\0") if "=" in each)
        except OSError:  # another user's
            environment = None
        return cache_of(self._command(str(pid)).split("\0"), environment)

    def _command(self, pid: str) -> str:
        try:
            return (self.roots.proc / pid / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
