import pytest
from django.conf import settings

from aicleaner_site.processes import Process, all_processes
from aicleaner_site.supervisor import configuration
from aicleaner_site.watch import translate


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
