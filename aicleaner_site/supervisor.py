"""supervisord (package `supervisor`) over the processes of the product: its configuration."""

import os
import shlex
import sys
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


def write_configuration(processes: list[Process]) -> Path:
    """The file for supervisord; `watch.py` starts it."""
    file: Path = settings.RUN_DIR / "supervisord.conf"
    file.write_text(configuration(processes))
    return file
