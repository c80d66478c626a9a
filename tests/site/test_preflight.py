"""What keeps the product from starting is told in one sentence, by the command that a person types."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aicleaner_site import preflight
from aicleaner_site.management.commands.up import make_secret_key
from tests.product import BASE_DIR, free_ports

HOLD_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("4242")
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def up(data_dir: Path, **environment: str) -> str:
    """What `manage.py up` says before it gives up."""
    web, gateway, engine = (str(port) for port in free_ports(3))
    ports = {"AICLEANER_WEB_PORT": web, "AICLEANER_GATEWAY_PORT": gateway, "AICLEANER_ENGINE_PORT": engine}
    done = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=BASE_DIR,
        env={**os.environ, "AICLEANER_DATA_DIR": str(data_dir), **ports, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_port_in_use_is_told_with_its_holder_and_the_variable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = up(tmp_path, AICLEANER_GATEWAY_PORT=str(port))
    assert f"Port {port} on 127.0.0.1 (gateway) can't be used" in said
    assert f"pid {os.getpid()}" in said
    assert "AICLEANER_GATEWAY_PORT" in said


def test_a_port_for_two_is_told_with_both_variables(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    said = up(tmp_path, AICLEANER_WEB_PORT=str(port), AICLEANER_ENGINE_PORT=str(port))
    assert f"AICLEANER_WEB_PORT and AICLEANER_ENGINE_PORT are both {port}" in said


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = up(tmp_path / "file" / "var")
    assert "can't be written" in said
    assert "AICLEANER_DATA_DIR" in said


def test_a_data_folder_that_the_supervisor_cannot_read_is_told(tmp_path: Path) -> None:
    said = up(tmp_path / "models #1")
    assert "has a '#' or ';' behind a blank" in said
    assert "AICLEANER_DATA_DIR" in said


def test_a_wrong_config_file_is_told_by_key(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("performance_optimization: {monitoring: {metrics_retention_hours: often}}")
    said = up(tmp_path, AICLEANER_CONFIG=str(config))
    assert "monitoring.metrics_retention_hours" in said


def test_a_second_start_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(run / "up.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert "already runs" in up(tmp_path)
        assert "pid 4242" in up(tmp_path)
    finally:
        holder.kill()
        holder.communicate()


def test_a_full_disk_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "FREE_BYTES_NEEDED", 2**62)
    with pytest.raises(preflight.CannotStartError, match="is full"):
        preflight.check_free_space()


def test_a_disk_without_a_byte_is_told_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(preflight, "_try_to_write", refuse)
    with pytest.raises(preflight.CannotStartError, match="is full: 0 MiB are free"):
        preflight.make_folders()


@pytest.mark.parametrize(("given", "made"), [(None, True), ("", True), ("a key of its own", False)])
def test_a_secret_key_is_made_unless_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, given: str | None, made: bool
) -> None:
    monkeypatch.delenv("AICLEANER_SECRET_KEY", raising=False)
    if given is not None:
        monkeypatch.setenv("AICLEANER_SECRET_KEY", given)
    settings.DATA_DIR = tmp_path
    make_secret_key()
    file = tmp_path / "secret_key"
    assert file.exists() is made
    assert not made or (file.stat().st_mode & 0o777 == 0o600 and file.read_text() == settings.SECRET_KEY)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machine_s_is_told_with_its_variable(tmp_path: Path, host: str) -> None:
    said = up(tmp_path, AICLEANER_WEB_HOST=host)
    assert f"{host} (web pages) is no address of this machine" in said
    assert "AICLEANER_WEB_HOST" in said


def test_a_database_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    said = up(tmp_path, DATABASE_URL="postgres://me:geheim@127.0.0.1:1/x")
    assert "The database does not take the tables" in said
    assert "DATABASE_URL" in said
    assert "geheim" not in said


@pytest.mark.parametrize(
    ("variable", "host", "what"),
    [
        ("AICLEANER_GATEWAY_PORT", "127.0.0.1", "gateway"),
        ("AICLEANER_GATEWAY_PORT", "0.0.0.0", "gateway"),
        ("AICLEANER_GATEWAY_PORT", "http://localhost", "gateway"),
        ("AICLEANER_ENGINE_PORT", "127.0.0.1", "embedded engine"),
    ],
)
def test_an_ollama_host_that_is_this_product_is_refused(
    tmp_path: Path, variable: str, host: str, what: str
) -> None:
    (port,) = free_ports(1)
    said = up(tmp_path, **{variable: str(port), "OLLAMA_HOST": f"{host}:{port}"})
    assert f":{port}, which is this product's own {what}: unset it, or set it to" in said
