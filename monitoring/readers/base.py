"""What every reader is: a class with a name, a pace and `read`."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

Values = dict[str, float | None]
Found = TypeVar("Found")
log = logging.getLogger(__name__)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
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

    def wait_for_first(self, timeout_s: float) -> None:
        """Wait until a reader with a thread of its own has read once."""

    def close(self) -> None:
        """Give back what is held."""


class Poller(Generic[Found]):
    """Asks at its own pace in a thread of its own; a sample takes what was found last and never waits for an answer.

    `ask` gets monotonic seconds; what it raises is logged once, and its last answer grows old."""

    def __init__(self, name: str, ask: Callable[[float], Found], every_s: float = 1.0) -> None:
        self._ask, self._every_s = ask, every_s
        self._started, self._failed = time.monotonic(), False
        self._found: tuple[float, Found] | None = None
        self._first, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def newest(self) -> Found | None:
        return None if self._found is None else self._found[1]

    def silent_s(self, now: float) -> float:
        """Seconds since the last answer, or since the start."""
        return now - (self._found[0] if self._found is not None else self._started)

    def wait_for_first(self, timeout_s: float) -> None:
        self._first.wait(max(timeout_s, 0))

    def close(self, timeout_s: float = 4.0) -> None:
        """A thread that hangs in a call is left behind."""
        self._end.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._found = (time.monotonic(), self._ask(time.monotonic()))
                self._failed = False
            except Exception:
                if not self._failed:
                    log.exception("%s: asking failed; it is tried again", self._thread.name)
                self._failed = True
            self._first.set()
            self._end.wait(self._every_s)


class ProcFile:
    """A file of /proc or /sys that stays open until `close`: reading it again costs two system calls."""

    def __init__(self, path: Path, size: int = 65536) -> None:
        self.path, self.size = path, size
        self._fd: int | None = None

    def read(self) -> bytes:
        """The whole text, up to `size`; empty when the file can't be read."""
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            text = b""
            # The kernel hands out most lists a page at a time, however much is asked for.
            while part := os.pread(self._fd, self.size - len(text), len(text)):
                text += part
        except OSError:
            self.close()
            return b""
        return text

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


def read_bytes(path: Path) -> bytes:
    """Empty when it can't be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def read_text(path: Path) -> str:
    """A small file's text, stripped; empty when it can't be read."""
    return read_bytes(path).decode(errors="replace").strip()


def label(text: str) -> str:
    """A label value as it stands in a series name: without the characters that structure it."""
    return text.translate(_STRUCTURE)
