"""Processes that go when whoever started them goes."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

# Run before the command, it ends it when this process is killed: nobody would hear what came of it.
DIES_WITH_US = Path(__file__).resolve().parent.parent / "aicleaner_site" / "child.py"


@contextmanager
def dependant(
    command: Sequence[str], told: bytes = b"", *, errors: int = subprocess.DEVNULL
) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """The process and its standard output. It was `told` this on its standard input, which stays open until the end of the
    block; that is its own end too, whatever happened."""
    whole = [sys.executable, str(DIES_WITH_US), *command]
    with subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            try:
                process.stdin.write(told)
                process.stdin.flush()
            except BrokenPipeError:  # it ended already; what it said, or did not, tells why
                with suppress(BrokenPipeError):
                    process.stdin.close()
            yield process, process.stdout
        finally:
            process.kill()
