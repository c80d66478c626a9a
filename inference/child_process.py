"""Work in a process of its own that tells what it does as JSON lines: a load generator, a model job."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from django.conf import settings

from inference.dependants import DIES_WITH_US

STOP_S = 5.0
MAX_LINE = 512 * 2**20
TAIL = 2000


class ChildProcess:
    """`with ChildProcess(module, plan) as child:` starts it; leaving the block ends it, whatever happened."""

    def __init__(self, module: str, plan: bytes) -> None:
        """`module`: run with `python -m`. `plan`: JSON for its standard input; it may hold an API key, so it goes through a
        pipe and never through arguments."""
        self.module, self.plan = module, plan
        self._buffer = bytearray()
        self._errors = tempfile.TemporaryFile(prefix="aicleaner-child-")  # noqa: SIM115 - closed by __exit__
        self.ended = False

    def __enter__(self) -> "ChildProcess":
        command = [sys.executable, str(DIES_WITH_US), sys.executable, "-m", self.module]
        self.process = subprocess.Popen(
            command,
            cwd=Path(settings.BASE_DIR),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches it through us, so that it is asked once
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._out = self.process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        try:
            self.process.stdin.write(self.plan)
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended already; its status and its words say why
        return self

    def messages(self, wait_s: float) -> list[dict[str, Any]]:
        """What it said within `wait_s`; `ended` is set when it will say no more."""
        if not self.ended and self._selector.select(wait_s):
            part = os.read(self._out, 1 << 20)
            self.ended = not part
            self._buffer += part
        if len(self._buffer) > MAX_LINE:
            raise ValueError(f"{self.module} sends a line without end")
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        return [json.loads(line) for line in lines if line.strip()]

    def stop(self) -> None:
        """Ask it to end with what it has so far."""
        if self.process.poll() is None:
            self.process.terminate()

    def status(self) -> tuple[int, str]:
        """(exit status, its last words), after it `ended`."""
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - TAIL, 0))
        return status, self._errors.read().decode(errors="replace").strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._selector.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()
