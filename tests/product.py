"""The whole product as a person starts it: `manage.py up` in a data folder and on ports of its own."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

BASE_DIR = Path(__file__).resolve().parent.parent
Value = TypeVar("Value")


def free_ports(n: int) -> list[int]:
    """`n` ports that nobody listens on, below those that the system gives to connections (32768 on), so that none is taken
    before it is used; each process of the tests chooses from a range of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12_000 + worker % 10 * 2_000
    found: list[int] = []
    for port in random.sample(range(first, first + 2_000), 2_000):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == n:
            break
    return found


def wait_for(question: Callable[[], Value | None], what: str, seconds: float = 60) -> Value:
    """The first truthy answer of `question`; fails the test by name of `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > end:
            raise AssertionError(f"After {seconds:g} s still not: {what}")
        time.sleep(0.05)
    return answer


class Product:
    """Started by entering the `with` block, stopped (with a check for orphans) by leaving it."""

    def __init__(self, data_dir: Path | None = None, **environment: str) -> None:
        self.web_port, self.gateway_port, self.engine_port = free_ports(3)
        self.own_data_dir = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="aic-up-"))
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "aicleaner_site.settings",  # not those of the tests
            "AICLEANER_DATA_DIR": str(self.data_dir),
            "AICLEANER_WEB_PORT": str(self.web_port),
            "AICLEANER_GATEWAY_PORT": str(self.gateway_port),
            "AICLEANER_ENGINE_PORT": str(self.engine_port),
            "OLLAMA_HOST": "127.0.0.1:1",
            **environment,
        }
        self.environment.pop("AICLEANER_SECRET_KEY", None)  # the product makes its own
        self.web_url = f"http://127.0.0.1:{self.web_port}"
        self.gateway_url = f"http://127.0.0.1:{self.gateway_port}"
        self.terminal = self.data_dir.with_name(self.data_dir.name + ".terminal")

    def __enter__(self) -> "Product":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.stop()
        self.terminal.unlink(missing_ok=True)
        if self.own_data_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        assert not left, f"left running after the stop: {left}"

    def start(self) -> None:
        with self.terminal.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=BASE_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(
            lambda: "Ctrl-C stops" in self.output() or self.process.poll() is not None,
            "the product is up",
            120,
        )
        assert self.process.poll() is None, self.output()

    def output(self) -> str:
        """What stands on the terminal so far."""
        return self.terminal.read_text()

    def login_link(self) -> str:
        found = re.search(r"http://\S+/login/once/\S+/", self.output())
        assert found is not None, self.output()
        return found[0]

    def processes(self) -> list[psutil.Process]:
        """Every process below `up`, and `up` itself."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def pid(self, name: str) -> int:
        """Process id of the last start of process `name`."""
        return int(re.findall(rf" {name} started \(pid (\d+)\)", self.output())[-1])

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.web_url}/healthz", timeout=10) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))
        except OSError:
            return {"status": "down", "parts": {}}

    def wait_until_healthy(self, seconds: float = 60) -> None:
        try:
            wait_for(lambda: self.health()["status"] == "ok", "every part is healthy", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.health()}\n{self.output()[-2000:]}") from error

    def stop(self, number: int = signal.SIGINT) -> list[str]:
        """Ctrl-C (or another signal); returns the command lines that are still running afterwards."""
        before = self.processes() if self.process.poll() is None else []
        self.process.send_signal(number)
        self.process.wait(60)
        _, alive = psutil.wait_procs(before, timeout=20)
        left = [" ".join(each.cmdline()) for each in alive]
        for each in alive:
            each.kill()
        return left
