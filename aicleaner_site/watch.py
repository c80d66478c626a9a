"""What `manage.py up` becomes once it has prepared everything: runs supervisord, tells its news, passes Ctrl-C on.

`python watch.py CONFIGURATION LOG_DIR GREETER_PID`. Standard library only, run as a plain file: it lives as long as the
product and should weigh nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

STOP_S = 45  # three times what supervisord gives one process
_SPAWNED = re.compile(r"spawned: '(\w+)' with pid (\d+)")
_EXITED = re.compile(r"exited: (\w+) \((?:exit status (\d+)|terminated by SIG(\w+))[^;]*; (not )?expected\)")
_FAILED = re.compile(r"gave up: (\w+) ")
_STOPPED = re.compile(r"stopped: (\w+) ")
_CRITICAL = re.compile(r"\b(?:CRIT|ERRO)\b\s*(.*)")


def translate(line: str, log_dir: str) -> str | None:
    """supervisord's log line in this product's words; None for the ones that nobody needs."""
    if found := _SPAWNED.search(line):
        return f"{found[1]} started (pid {found[2]})"
    if found := _EXITED.search(line):
        how = f"was killed by SIG{found[3]}" if found[3] else f"ended with status {found[2]}"
        return f"{found[1]} {how}: it is restarted; its log: {log_dir}/{found[1]}.log"
    if found := _FAILED.search(line):
        return f"{found[1]} ended too often and is not restarted; its log: {log_dir}/{found[1]}.log"
    if found := _STOPPED.search(line):
        return f"{found[1]} stopped"
    if found := _CRITICAL.search(line):
        return f"supervisor: {found[1]}"
    return None


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)  # noqa: T201 - this is the terminal


def reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def main(configuration: str, log_dir: str, greeter: int) -> int:
    child = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")  # noqa: PTH100, PTH118, PTH120
    reading, writing = os.pipe()
    supervisor = subprocess.Popen(
        [sys.executable, child, sys.executable, "-m", "supervisor.supervisord", "-c", configuration],
        # It holds the reading end as well: a pipe without a reader would end it amid its work once we are killed,
        # and it must still stop everything in order.
        stdin=reading,
        stdout=writing,
        stderr=writing,
        start_new_session=True,  # Ctrl-C reaches it only through us
    )
    os.close(writing)
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            say("stopping")
            signal.alarm(STOP_S)
            with suppress(ProcessLookupError):
                os.kill(greeter, signal.SIGKILL)
            supervisor.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    signal.signal(signal.SIGCHLD, lambda number, frame: reap(greeter))
    # The processes follow a killed supervisord: child.py asked the kernel for that.
    signal.signal(signal.SIGALRM, lambda number, frame: supervisor.kill())
    with os.fdopen(reading) as lines:
        for line in lines:
            if told := translate(line, log_dir):
                say(told)
    supervisor.wait()
    if not stopping:
        say(f"The supervisor ended by itself; see {log_dir}/supervisor.log.")
        return 1
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
