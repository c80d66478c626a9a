"""What every reader is: a class with a name, a pace and `read`."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

Values = dict[str, float | None]
_STRUCTURE = {ord(character): "_" for character in ",{}="}


@dataclass(frozen=True)
class Roots:
    """Where /proc and /sys are; tests put recorded trees there."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    valkey_url: str = ""


@dataclass
class Reading:
    """`values`: series -> number (None: can't be read now). `state`: what is no number, merged into the sample's state."""

    values: Values = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Reader:
    """Reads one kind of thing. It never raises for a thing that is missing: it says None, or why in the state."""

    name: ClassVar[str]
    every_s: ClassVar[float] = 1.0

    def __init__(self, roots: Roots) -> None:
        self.roots = roots

    def read(self, now: float) -> Reading:
        """`now`: monotonic seconds, the base of all rates."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is held."""


class ProcFile:
    """A file of /proc or /sys that stays open: reading it again costs one system call."""

    def __init__(self, path: Path, size: int = 65536) -> None:
        self.path, self.size = path, size
        self._fd: int | None = None

    def read(self) -> bytes:
        """The whole text; empty when the file can't be read."""
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._fd, self.size, 0)
        except OSError:
            self.close()
            return b""

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Rates:
    """Counters to rates per second; the first reading and a counter that ran backwards give None."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def per_s(self, key: str, counter: float, now: float) -> float | None:
        before = self._last.get(key)
        self._last[key] = (now, counter)
        if before is None or now <= before[0] or counter < before[1]:
            return None
        return (counter - before[1]) / (now - before[0])


def read_number(path: Path, scale: float = 1.0) -> float | None:
    """A sysfs file with one number; None when it can't be read."""
    try:
        return float(path.read_bytes()) * scale
    except (OSError, ValueError):
        return None


def read_text(path: Path) -> str:
    """A small file's text, stripped; empty when it can't be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def label(text: str) -> str:
    """A label value as it stands in a series name: without the characters that structure it."""
    return text.translate(_STRUCTURE)
