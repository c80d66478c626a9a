"""Our own servers for tests: real processes on free ports."""

import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests.product import BASE_DIR, free_ports, wait_for


class Server:
    """A process with an HTTP address, started by `with` and ended by leaving it."""

    def __init__(self, module: str, *arguments: str, ready: str = "/", port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ready = ready
        self.command = [sys.executable, "-m", module, "--port", str(self.port), *arguments]

    def __enter__(self) -> "Server":
        self.log = tempfile.NamedTemporaryFile(prefix="aic-log-", suffix=".txt")
        self.process = subprocess.Popen(
            self.command, cwd=BASE_DIR, stdout=self.log, stderr=subprocess.STDOUT, env=dict(os.environ)
        )
        try:
            wait_for(self._answers, f"{self.command[2]} answers", 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.log.close()

    def _answers(self) -> bool:
        assert self.process.poll() is None, Path(self.log.name).read_text()
        try:
            with urllib.request.urlopen(self.url + self.ready, timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
