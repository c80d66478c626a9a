"""supervisord (package `supervisor`) over the processes of the product: its configuration, its start and its log lines."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from aicleaner_site.processes import Process

STOP_S = 15  # a process that is still there this long after SIGTERM gets SIGKILL
CHILD = Path(__file__).with_name("child.py")

SUPERVISORD = """\
[supervisord]
nodaemon=true
logfile={log_dir}/supervisor.log
logfile_maxbytes=1MB
logfile_backups=2
pidfile={run_dir}/supervisord.pid
directory={base_dir}
umask=077
"""
PROGRAM = """
[program:{name}]
command={command}
priority={order}
autorestart=true
startsecs=3
startretries=1000000
stopsignal=TERM
stopwaitsecs={stop_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={log_dir}/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=3
"""


def configuration(processes: list[Process]) -> str:
    """Text of supervisord's configuration file; `%` is doubled, since the file interpolates."""
    # Without a user name supervisord warns each time that root starts it.
    user = "user=root\n" if os.getuid() == 0 else ""
    places = {"log_dir": settings.LOG_DIR, "run_dir": settings.RUN_DIR, "base_dir": settings.BASE_DIR}
    quoted = {name: str(place).replace("%", "%%") for name, place in places.items()}
    text = SUPERVISORD.format(**quoted) + user
    for process in processes:
        command = shlex.join([sys.executable, str(CHILD), *process.command]).replace("%", "%%")
        text += PROGRAM.format(
            name=process.name, command=command, order=process.order, stop_s=STOP_S, **quoted
        )
    return text


class Supervisor:
    """A running supervisord, in a session of its own: Ctrl-C reaches it only through `stop`."""

    def __init__(self, processes: list[Process]) -> None:
        file = settings.RUN_DIR / "supervisord.conf"
        file.write_text(configuration(processes))
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), sys.executable, "-m", "supervisor.supervisord", "-c", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def news(self) -> Iterator[str]:
        """A line for each process that started, stopped or was restarted; ends when supervisord does."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if told := translate(line):
                yield told

    def stop(self) -> None:
        """Stop every process and supervisord itself, and wait for the end."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(3 * STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # the processes follow: child.py asked the kernel for that
            self.process.wait()


_SPAWNED = re.compile(r"spawned: '(\w+)' with pid (\d+)")
_EXITED = re.compile(r"exited: (\w+) \((?:exit status (\d+)|terminated by SIG(\w+))[^;]*; (not )?expected\)")
_FAILED = re.compile(r"gave up: (\w+) ")
_STOPPED = re.compile(r"stopped: (\w+) ")
_CRITICAL = re.compile(r"\b(?:CRIT|ERRO)\b\s*(.*)")


def translate(line: str) -> str | None:
    """supervisord's log line in this product's words; None for the ones that nobody needs."""
    if found := _SPAWNED.search(line):
        return f"{found[1]} started (pid {found[2]})"
    if found := _EXITED.search(line):
        how = f"was killed by SIG{found[3]}" if found[3] else f"ended with status {found[2]}"
        return f"{found[1]} {how}: it is restarted; its log: {settings.LOG_DIR / found[1]}.log"
    if found := _FAILED.search(line):
        return f"{found[1]} ended too often and is not restarted; its log: {settings.LOG_DIR / found[1]}.log"
    if found := _STOPPED.search(line):
        return f"{found[1]} stopped"
    if found := _CRITICAL.search(line):
        return f"supervisor: {found[1]}"
    return None
