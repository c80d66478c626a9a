"""The processes that use most CPU, every five seconds."""

import os
import re

from monitoring.readers.base import PAGE_BYTES, Reader, Reading, Roots

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
N_TOP = 5
INTERPRETER = re.compile(r"(python[\d.]*|perl|ruby|node|java|deno|bun|(ba|da|z)?sh)$")


class Processes(Reader):
    name = "processes"
    every_s = 5.0

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self._last: dict[int, tuple[int, int]] = {}  # pid -> (start time, ticks)
        self._last_at: float | None = None

    def read(self, now: float) -> Reading:
        found: dict[int, tuple[int, int]] = {}
        rows: list[tuple[float, int, int, str]] = []
        proc = os.fspath(self.roots.proc)
        for entry in os.listdir(proc):  # noqa: PTH208 - a name each, many times
            if not entry.isdigit():
                continue
            try:
                with open(f"{proc}/{entry}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                    text = file.read(1024)
            except OSError:  # it ended meanwhile
                continue
            name, _, rest = text.partition(b"(")[2].rpartition(b")")
            fields = rest.split()
            pid, ticks, started = int(entry), int(fields[11]) + int(fields[12]), int(fields[19])
            found[pid] = (started, ticks)
            before = self._last.get(pid)
            spent = ticks - before[1] if before is not None and before[0] == started else 0
            rows.append((spent, int(fields[21]), pid, name.decode(errors="replace")))
        elapsed = None if self._last_at is None else now - self._last_at
        self._last, self._last_at = found, now
        if not elapsed:
            return Reading(state={"top": []})
        rows.sort(reverse=True)
        top = [
            {
                "pid": pid,
                "name": self._program(pid, name),
                "cpu_percent": 100 * spent / TICKS_PER_S / elapsed,
                "memory_bytes": pages * PAGE_BYTES,
            }
            for spent, pages, pid, name in rows[:N_TOP]
        ]
        return Reading(state={"top": top})

    def _program(self, pid: int, name: str) -> str:
        """What runs, where the name is that of an interpreter: `python inference.gateway`. Other arguments may be secrets."""
        if not INTERPRETER.match(name):
            return name
        try:
            words = (self.roots.proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            return name
        return f"{name} {script_of(words)}".strip()


def script_of(words: list[bytes]) -> str:
    """Module or file that an interpreter was started with; "" where none is named at once (`python -c`, a shell)."""
    arguments = [word.decode(errors="replace") for word in words[1:]]
    if len(arguments) > 1 and arguments[0] in ("-m", "-jar"):
        return arguments[1].rpartition("/")[2]
    first = arguments[0] if arguments else ""
    return "" if first.startswith("-") else first.rpartition("/")[2]
