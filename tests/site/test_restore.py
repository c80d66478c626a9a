"""`manage.py restore`: all comes back, and what can't be restored touches nothing."""

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.records import STREAM
from tests.disk import no_file_over
from tests.inference.logged import a_record
from tests.product import wait_for
from tests.site.backup_files import GOOD, write
from tests.site.conftest import Command
from tests.site.data_folder import RIGHT, DataFolder


@pytest.fixture(scope="session")
def backup(filled: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("backup") / "a.tar.zst"
    process = filled.start("backup", file)
    assert process.wait(120) == 0
    return file


def beside(folder: DataFolder) -> set[str]:
    return {each.name for each in folder.path.parent.iterdir()}


def test_all_of_it_comes_back(filled: DataFolder, command: Command, backup: Path, tmp_path: Path) -> None:
    new = DataFolder(tmp_path / "deep" / "var")
    new.path.parent.mkdir()
    said = command(new, "restore", backup)
    assert "Restored into" in said
    assert new.look(filled.token) == RIGHT
    assert beside(new) == {"var"}
    for place in (new.path, *new.path.rglob("*")):
        assert stat.S_IMODE(place.stat().st_mode) == (0o700 if place.is_dir() else 0o600), place
    assert {"secret_key", "archive/cold.tar.gz", "db.sqlite3"} <= set(new.contents())


def test_old_data_are_moved_aside_only_by_force(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    folder.query("DELETE FROM monitoring_rule")
    (folder.path / "archive" / "newer").write_bytes(b"since the backup")
    before = folder.contents()
    with pytest.raises(CommandError, match="holds data: give --force"):
        command(folder, "restore", backup)
    assert folder.contents() == before
    told = json.loads(command(folder, "restore", backup, "--force", "--json"))
    aside = DataFolder(Path(told["old_data"]))
    assert aside.contents() == before
    assert beside(folder) == {"var", aside.path.name}
    assert re.fullmatch(r"var\.before-\d{8}-\d{6}", aside.path.name)
    assert folder.look(filled.token) == RIGHT
    assert not (folder.path / "archive" / "newer").exists()


def test_a_dry_run_says_it_all_and_changes_nothing(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    before = folder.contents()
    told = json.loads(command(folder, "restore", backup, "--dry-run", "--json"))
    assert [each for each in told["would_be_refused"] if "--force" in each]
    assert told["n_files"] == 4
    assert "whole" in command(folder, "restore", backup, "--dry-run", "--force")
    assert folder.contents() == before
    empty = DataFolder(tmp_path / "new" / "var")
    command(empty, "restore", backup, "--dry-run")
    assert not empty.path.parent.exists()


def test_models_that_are_here_stay_where_the_backup_has_none(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    blobs = folder.path / "models" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "sha256-1").write_bytes(b"weights")
    told = json.loads(command(folder, "restore", backup, "--force", "--json"))
    assert told["models_kept"] is True
    assert (blobs / "sha256-1").read_bytes() == b"weights"
    assert (blobs / "sha256-1").samefile(Path(told["old_data"]) / "models" / "blobs" / "sha256-1")


def test_models_come_with_a_backup_that_has_them(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    folder, new = filled.copied_to(tmp_path / "var"), DataFolder(tmp_path / "new")
    blobs = folder.path / "models" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "sha256-1").write_bytes(b"weights")
    os.utime(blobs / "sha256-1", (1_700_000_000, 1_700_000_000))
    command(folder, "backup", tmp_path / "a.tar.zst", "--with-models")
    command(new, "restore", tmp_path / "a.tar.zst")
    made = new.path / "models" / "blobs" / "sha256-1"
    assert (made.read_bytes(), made.stat().st_mtime) == (b"weights", 1_700_000_000)


def test_it_is_refused_while_the_product_runs(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    (folder.path / "run").mkdir()
    with (folder.path / "run" / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242")
        lock.flush()
        before = folder.contents()
        with pytest.raises(CommandError, match=r"runs on .* \(pid 4242\): stop it"):
            command(folder, "restore", backup, "--force")
        assert "would be refused" in command(folder, "restore", backup, "--force", "--dry-run")
        assert folder.contents() == before


HOLD = "import sys; held = open(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_it_is_refused_while_a_process_by_hand_uses_the_folder(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    words = [sys.executable, "-c", HOLD, str(folder.path / "db.sqlite3")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(CommandError, match=rf"pid {process.pid}\) uses files in"):
            command(folder, "restore", backup, "--force")
        process.kill()
    command(folder, "restore", backup, "--force")


@pytest.mark.parametrize("how", ["cut", "changed", "empty", "other"])
def test_a_damaged_file_is_refused_and_nothing_is_touched(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path, how: str
) -> None:
    whole = backup.read_bytes()
    middle = len(whole) // 2
    wrong = {
        "cut": whole[:-1000],
        "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
        "other": b"PK\x03\x04" * 1000,
    }
    (tmp_path / "a.tar.zst").write_bytes(wrong[how])
    folder = filled.copied_to(tmp_path / "var")
    before = folder.contents()
    for more in ((), ("--dry-run",)):
        with pytest.raises(CommandError, match=r"It is|It has|has another content"):
            command(folder, "restore", tmp_path / "a.tar.zst", "--force", *more)
    assert folder.contents() == before
    assert beside(folder) == {"var", "a.tar.zst"}


@pytest.mark.parametrize(
    ("content", "changes", "said"),
    [
        ({**GOOD, "data/../../x": b""}, {}, "no path within a data folder"),
        ({**GOOD, "etc/cron.d/x": b""}, {}, "belongs in no backup"),
        ({**GOOD, "data/run/up.lock": b""}, {}, "belongs in no backup"),
        ({**GOOD, "data/db.sqlite3-wal": b""}, {}, "belongs in no backup"),
        ({"data/a": b""}, {}, "holds no database"),
        (
            GOOD,
            {"migrations": ("monitoring.0999_later",), "version": "9.9"},
            r"newer version .*9\.9.*0999_later",
        ),
        (GOOD, {}, "no database of the product"),
    ],
)
def test_what_only_looks_like_a_backup_is_refused(
    filled: DataFolder, command: Command, tmp_path: Path, content: Any, changes: Any, said: str
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    before = folder.contents()
    file = write(tmp_path / "a.tar.zst", content, **changes)
    with pytest.raises(CommandError, match=said):
        command(folder, "restore", file, "--force")
    assert folder.contents() == before
    assert beside(folder) == {"var", "a.tar.zst"}


def test_a_database_of_other_migrations_than_told_is_refused(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    database = (filled.path / "db.sqlite3").read_bytes()
    file = write(
        tmp_path / "a.tar.zst", {**GOOD, "data/db.sqlite3": database}, migrations=("auth.0001_initial",)
    )
    with pytest.raises(CommandError, match="other migrations than its manifest says"):
        command(DataFolder(tmp_path / "var"), "restore", file)
    assert {each.name for each in tmp_path.iterdir()} == {"a.tar.zst"}


STORE = """
import redis
from django.conf import settings
from inference.services import store_request_records
with redis.from_url(settings.VALKEY_URL) as client:
    assert store_request_records(client) == 1
"""
OLDER = """
from django.core.management import call_command
from django.utils import timezone
from inference.models import ModelJob
ModelJob.objects.create(host="box", who="mia", kind="unarchive", source="a", target="b", parameters={}, created_at=timezone.now())
call_command("migrate", "inference", "0010", verbosity=0)
"""


def test_an_older_backup_is_brought_to_this_version(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    folder, new = filled.copied_to(tmp_path / "var"), DataFolder(tmp_path / "new")
    folder.run(OLDER)
    assert folder.query("SELECT kind FROM inference_modeljob") == [("restore",)]
    command(folder, "backup", tmp_path / "a.tar.zst")
    assert "would be brought to this version" in command(new, "restore", tmp_path / "a.tar.zst", "--dry-run")
    assert "was brought to this version" in command(new, "restore", tmp_path / "a.tar.zst")
    assert new.look(filled.token) == {**RIGHT, "jobs": ["unarchive"]}


def test_records_that_waited_are_in_the_database_afterwards_once(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    """One had been stored already when the database was copied, one came twice, one is none."""
    stored, waiting = ({"r": json.dumps(a_record(number), default=str)} for number in (1, 2))
    folder = filled.copied_to(tmp_path / "var")
    (folder.path / "valkey").mkdir()
    with ValkeyServer(folder.path / "run" / "valkey.sock") as server, redis.from_url(server.url) as client:
        client.xadd(STREAM, stored)
        folder.run(STORE)
        for each in (stored, waiting, waiting, {"r": "no record"}):
            client.xadd(STREAM, each)
        command(folder, "backup", tmp_path / "a.tar.zst")
    new = DataFolder(tmp_path / "new")
    command(new, "restore", tmp_path / "a.tar.zst")
    ids = new.query("SELECT request_id FROM inference_inferencerequest ORDER BY request_id")
    assert ids == [(f"{number:032x}",) for number in (1, 2)]


def test_a_disk_that_fills_leaves_what_was(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    before = folder.contents()
    with (
        no_file_over(300_000),
        pytest.raises(CommandError, match=r"can't be restored: File too large.* is as it was"),
    ):
        command(folder, "restore", backup, "--force")
    assert folder.contents() == before
    assert beside(folder) == {"var"}


def test_a_disk_without_room_is_told_before_anything_is_written(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aicleaner_site.backup.restoring.SPARE_BYTES", shutil.disk_usage(tmp_path).free - 1000
    )
    with pytest.raises(CommandError, match="the disk has no room"):
        command(DataFolder(tmp_path / "var"), "restore", backup)
    assert list(tmp_path.iterdir()) == []


def test_a_postgresql_server_is_refused_by_both(
    filled: DataFolder, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    before = folder.contents()
    command(folder, "backup", tmp_path / "a.tar.zst")
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    with pytest.raises(CommandError, match="PostgreSQL server, which is not saved by this command"):
        command(folder, "backup", tmp_path / "b.tar.zst")
    with pytest.raises(CommandError, match="DATABASE_URL names another database"):
        command(folder, "restore", tmp_path / "a.tar.zst", "--force")
    assert folder.contents() == before


def test_a_file_that_is_not_there_is_told(command: Command, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"a\.tar\.zst can't be read: No such file"):
        command(DataFolder(tmp_path / "var"), "restore", tmp_path / "a.tar.zst")
    assert list(tmp_path.iterdir()) == []


def test_a_sqlite_file_elsewhere_is_saved_and_not_restored_to(
    filled: DataFolder, command: Command, backup: Path, tmp_path: Path, settings: Any
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    elsewhere = (folder.path / "db.sqlite3").rename(tmp_path / "elsewhere.sqlite3")
    command(filled, "restore", backup, "--dry-run")  # sets the settings of the folder
    settings.DATA_DIR = folder.path
    settings.DATABASES["default"]["NAME"] = str(elsewhere)
    call_command("backup", str(tmp_path / "a.tar.zst"), stdout=StringIO())
    with pytest.raises(
        CommandError, match=f"DATABASE_URL names another database than {folder.path}/db.sqlite3"
    ):
        call_command("restore", str(tmp_path / "a.tar.zst"), "--force")
    command(DataFolder(tmp_path / "new"), "restore", tmp_path / "a.tar.zst")
    assert DataFolder(tmp_path / "new").look(filled.token) == {**RIGHT}


def test_a_restore_that_is_killed_amid_unpacking_leaves_the_old_folder_and_the_next_one_clears_up(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    (folder.path / "archive" / "large").write_bytes(bytes(2**27))
    command(folder, "backup", tmp_path / "a.tar.zst")
    before = folder.contents()
    half = tmp_path / "var.restoring" / "new" / "archive" / "large"
    with folder.start("restore", tmp_path / "a.tar.zst", "--force") as process:
        try:
            wait_for(half.exists, "it unpacks")
        finally:
            process.kill()
    assert process.returncode == -9, "it was over already"
    assert folder.contents() == before
    assert half.exists()
    command(folder, "restore", tmp_path / "a.tar.zst", "--force")
    assert not (tmp_path / "var.restoring").exists()
    assert folder.look(filled.token) == RIGHT
