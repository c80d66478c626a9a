"""The channel that needs no receiver: one line a notice in DATA_DIR/logs/alerts.log, and in the process's own log."""

import fcntl
import logging
import os
from typing import BinaryIO

from django.conf import settings

from monitoring.channels.base import Channel, ChannelError, Notice

log = logging.getLogger("monitoring.alerts")
LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING}


class LogChannel(Channel):
    """The key ends its line, so that a line cut short by a full disk doesn't count as written."""

    name = "log"

    def send(self, notice: Notice) -> None:
        end = f" key={notice.key}\n".encode()
        text = " ".join(notice.text.split())
        line = f"{notice.at:%Y-%m-%dT%H:%M:%SZ} {notice.severity} {notice.event} {text}".encode() + end
        try:
            settings.LOG_DIR.mkdir(parents=True, exist_ok=True)
            with (settings.LOG_DIR / "alerts.log").open("a+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
                if notice.attempt > 1 and _has(file, end):
                    return
                _append(file, line)
        except OSError as error:
            raise ChannelError(f"{settings.LOG_DIR / 'alerts.log'} can't be written: {error}") from error
        log.log(LEVELS.get(notice.severity, logging.INFO), "%s: %s", notice.event, text)


def _has(file: BinaryIO, end: bytes) -> bool:
    file.seek(0)
    return any(line.endswith(end) for line in file)


def _append(file: BinaryIO, line: bytes) -> None:
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            line = b"\n" + line
    if file.write(line) != len(line):
        raise OSError("the disk took only a part of the line")
    os.fsync(file.fileno())
