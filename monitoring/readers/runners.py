"""Which process runs a model: the one with the model's file on its command line, whoever the engine is."""

from dataclasses import dataclass, field

from monitoring.readers.base import PAGE_BYTES, Roots

LOOK_EVERY_S = 5.0


@dataclass
class Runners:
    roots: Roots
    _pids: dict[str, int] = field(default_factory=dict)
    _looked_at: float = float("-inf")

    def find(self, file: str, now: float) -> int | None:
        """Process id; None when there is none on this machine, or it is not ours to see. `file`: the model's blob, by name."""
        pid = self._pids.get(file)
        if pid is not None and file in self._command(str(pid)):
            return pid
        self._pids.pop(file, None)
        if now - self._looked_at >= LOOK_EVERY_S:  # each process costs a file
            self._looked_at = now
            for entry in self.roots.proc.iterdir():
                if entry.name.isdigit() and file in self._command(entry.name):
                    self._pids[file] = int(entry.name)
        return self._pids.get(file)

    def memory_bytes(self, pid: int) -> int | None:
        """Resident: what is mapped of the model's file included."""
        try:
            return int((self.roots.proc / str(pid) / "statm").read_bytes().split()[1]) * PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return None

    def _command(self, pid: str) -> str:
        try:
            return (self.roots.proc / pid / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
