import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from aicleaner_site.processes import Process, all_processes
from aicleaner_site.supervisor import configuration
from aicleaner_site.watch import translate
from tests.product import BASE_DIR


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2026-11-24 09:44:48,1 INFO spawned: 'web' with pid 12", "web started (pid 12)"),
        (
            "2026-11-24 INFO exited: gateway (terminated by SIGKILL; not expected)",
            "gateway was killed by SIGKILL: it is restarted; its log: /logs/gateway.log",
        ),
        (
            "2026-11-24 WARN exited: beat (exit status 1; not expected)",
            "beat ended with status 1: it is restarted; its log: /logs/beat.log",
        ),
        ("2026-11-24 INFO stopped: worker (exit status 0)", "worker stopped"),
        ("2026-11-24 CRIT could not write pidfile", "supervisor: could not write pidfile"),
        ("2026-11-24 INFO success: web entered RUNNING state", None),
    ],
)
def test_supervisor_lines_are_told_in_our_words(line: str, told: str | None) -> None:
    assert translate(line, "/logs") == told


def test_a_percent_sign_in_a_command_survives_the_configuration_file() -> None:
    assert "worker@%%h" in configuration([Process("worker", ["celery", "worker@%h"])])


def test_valkey_is_left_out_when_another_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all_processes()[0].name == "valkey"
    monkeypatch.setattr(settings, "VALKEY_EMBEDDED", False)
    assert "valkey" not in [process.name for process in all_processes()]


def test_config_yaml_reaches_the_engine() -> None:
    command = next(process.command for process in all_processes() if process.name == "engine")
    assert command[command.index("--max-loaded") + 1] == str(
        settings.CONFIG.resource_management.model_cache_size
    )
    assert (
        command[command.index("--keep-alive") + 1]
        == f"{settings.CONFIG.resource_management.unload_timeout_minutes:g}m"
    )


@pytest.mark.parametrize("ignored", [True, False])
def test_a_closed_terminal_stops_it_all_unless_nohup_was_asked_for(tmp_path: Path, ignored: bool) -> None:
    file = tmp_path / "supervisord.conf"
    user = "user=root\n" if psutil.Process().username() == "root" else ""
    file.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={tmp_path}/s.log\npidfile={tmp_path}/s.pid\n{user}"
        "[program:sleeper]\ncommand=sleep 600\n"
    )
    greeter = subprocess.Popen(["sleep", "600"])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        watch = subprocess.Popen(
            [sys.executable, BASE_DIR / "aicleaner_site/watch.py", file, tmp_path, str(greeter.pid)],
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert watch.stdout is not None
    with watch.stdout:
        assert "sleeper started" in watch.stdout.readline()
        if ignored:
            status = Path(f"/proc/{watch.pid}/status").read_text()
            ignores = int(status.partition("SigIgn:")[2].split()[0], 16)
            assert ignores & 1 << signal.SIGHUP - 1
        watch.send_signal(signal.SIGTERM if ignored else signal.SIGHUP)
        said = [line.split(" ", 1)[1].strip() for line in watch.stdout]
    assert said == ["stopping", "sleeper stopped", "stopped"]
    assert watch.wait(30) == 0
    assert greeter.wait(10) == -signal.SIGKILL
