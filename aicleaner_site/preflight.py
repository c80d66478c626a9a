"""What must hold before the processes are started; each failure is one sentence that says what to do."""

import errno
import fcntl
import os
import re
import shutil
import socket
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psutil
from django.conf import settings

FREE_BYTES_NEEDED = 200 * 2**20


class CannotStartError(Exception):
    """Something on this machine keeps the product from starting; the text is for the person at the terminal."""


def make_folders() -> None:
    for what, place in (("program", settings.BASE_DIR), ("data (AICLEANER_DATA_DIR)", settings.DATA_DIR)):
        if re.search(r"\s[#;]", str(place)):
            raise CannotStartError(
                f"The folder of the {what}, {place}, has a '#' or ';' behind a blank, where the supervisor reads a comment: "
                "give it another name."
            )
    for folder in (
        settings.DATA_DIR,
        settings.RUN_DIR,
        settings.LOG_DIR,
        settings.MODELS_DIR,
        settings.DATA_DIR / "valkey",
    ):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _try_to_write(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(folder, 0) from error
            raise CannotStartError(
                f"The data folder {folder} can't be written ({error.strerror}): make it yours with chown, or set "
                "AICLEANER_DATA_DIR to another one."
            ) from error
    if (
        settings.RUN_DIR.stat().st_uid != os.getuid()
    ):  # it may lie in /tmp, where anybody could have made it first
        raise CannotStartError(
            f"{settings.RUN_DIR} belongs to another user: remove it, or set AICLEANER_DATA_DIR to a shorter path."
        )


def _try_to_write(folder: Path) -> None:
    probe = folder / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b"x")
    finally:
        probe.unlink(missing_ok=True)


def check_free_space() -> None:
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < FREE_BYTES_NEEDED:
        raise _full(settings.DATA_DIR, free)


def _full(folder: Path, free: int) -> CannotStartError:
    return CannotStartError(
        f"The disk of {folder} is full: {free / 2**20:.0f} MiB are free and {FREE_BYTES_NEEDED / 2**20:.0f} "
        "MiB are needed. Free some space, or set AICLEANER_DATA_DIR to a folder on another disk."
    )


def take_lock() -> IO[str]:
    """A lock on the data folder that lasts as long as this process; keep the returned file."""
    file = (settings.RUN_DIR / "up.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise CannotStartError(
            f"AICleaner Performance already runs on {settings.DATA_DIR} (pid {holder}): stop it with Ctrl-C first, or set "
            "AICLEANER_DATA_DIR for a second one."
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder() -> str | None:
    """Process id of who holds that lock, as far as it is told; None when nobody does. Changes nothing."""
    try:
        file = (settings.RUN_DIR / "up.lock").open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None


def check_ports() -> None:
    taken: dict[tuple[str, int], str] = {}
    for what, host, port, variable in (
        ("web pages", settings.WEB_HOST, settings.WEB_PORT, "AICLEANER_WEB_PORT"),
        ("gateway", settings.GATEWAY_HOST, settings.GATEWAY_PORT, "AICLEANER_GATEWAY_PORT"),
        ("engine", settings.ENGINE_HOST, settings.ENGINE_PORT, "AICLEANER_ENGINE_PORT"),
    ):
        if (host, port) in taken:
            raise CannotStartError(
                f"{taken[host, port]} and {variable} are both {port}: give each a port of its own."
            )
        taken[host, port] = variable
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except PermissionError as error:
            raise CannotStartError(
                f"Port {port} ({what}) is not allowed for this user: set {variable} to one above 1023."
            ) from error
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise CannotStartError(
                    f"{host} ({what}) is no address of this machine: set {variable.replace('_PORT', '_HOST')} to one of its "
                    "own, or to 0.0.0.0 for all of them."
                ) from error
            raise CannotStartError(
                f"Port {port} on {host} ({what}) can't be used: {_holder(port) or error.strerror or error}. Stop what "
                f"uses it, or set {variable} to a free port."
            ) from error


def check_ollama_host() -> None:
    """The gateway's first engine may not be the gateway itself, which would ask itself for ever, nor the embedded engine."""
    ollama = urlsplit(settings.ENGINES[0]["url"])
    for what, port in (("gateway", settings.GATEWAY_PORT), ("embedded engine", settings.ENGINE_PORT)):
        if ollama.port == port and _is_this_machine(ollama.hostname or ""):
            raise CannotStartError(
                f"OLLAMA_HOST names {ollama.hostname}:{port}, which is this product's own {what}: unset it, or set it to the "
                "address of an Ollama server (11434 is Ollama's own port); your clients alone get the gateway's address."
            )


def _is_this_machine(host: str) -> bool:
    """Whether one can listen on that host's address: that holds for this machine's addresses only."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _holder(port: int) -> str | None:
    """Which process listens on `port`, as far as this user may know."""
    try:
        listening = [
            c
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
        ]
        if listening and listening[0].pid:
            return f"{psutil.Process(listening[0].pid).name()} (pid {listening[0].pid}) listens there"
    except psutil.Error:
        return None
    return "another program listens there" if listening else None
