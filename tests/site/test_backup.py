"""`manage.py backup`: what is in it, that it is of one moment, and what a failed one leaves."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import zstandard
from django.core.management.base import CommandError

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.records import STREAM
from tests.disk import no_file_over
from tests.product import wait_for
from tests.site.conftest import Command
from tests.site.data_folder import DataFolder


@contextmanager
def opened(file: Path) -> Iterator[tarfile.TarFile]:
    with (
        file.open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        yield tar


def names(file: Path) -> set[str]:
    with opened(file) as tar:
        return set(tar.getnames())


def content_of(file: Path, name: str) -> bytes:
    with opened(file) as tar:
        for each in tar:
            found = tar.extractfile(each)
            if each.name == name and found is not None:
                return found.read()
    raise AssertionError(f"{file} has no {name}")


def test_it_holds_the_folder_without_logs_locks_and_models(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    folder, files = filled.copied_to(tmp_path / "var"), tmp_path / "backups"
    files.mkdir()
    taken = {"importance/sample.gguf", "work/checkpoints/abc/about.json", "config.yaml"}
    models = {"models/blobs/sha256-1", "models/manifests/m.json"}
    left_out = {"logs/web.log", "run/up.lock", "models/lock", "models/blobs/partial-1-a", "secret_key.99"}
    for name in (*left_out, "work/job-7/half", *taken, *models):
        place = folder.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * 1000)
    told = json.loads(command(folder, "backup", files / "a.tar.zst", "--json"))
    assert told["models_left_out_bytes"] == 2000
    assert told["bytes"] == (files / "a.tar.zst").stat().st_size
    usual = {f"data/{each}" for each in ("archive/cold.tar.gz", "db.sqlite3", "secret_key", *taken)}
    assert names(files / "a.tar.zst") == {*usual, "waiting/request-records.jsonl", "manifest.json"}
    command(folder, "backup", files / "b.tar.zst", "--with-models")
    assert names(files / "b.tar.zst") - names(files / "a.tar.zst") == {f"data/{each}" for each in models}
    assert {each.name for each in files.iterdir()} == {"a.tar.zst", "b.tar.zst"}


def test_only_its_owner_may_read_it_and_the_terminal_says_why(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "a.tar.zst"
    said = command(filled, "backup", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "It holds secrets" in said
    assert "the-key-of-this-folder" not in said


def test_a_secret_key_that_is_elsewhere_is_said(
    filled: DataFolder, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICLEANER_SECRET_KEY", "set-by-systemd")
    said = command(filled, "backup", tmp_path / "a.tar.zst")
    assert "The secret key is not in it" in said
    assert "set-by-systemd" not in said


def test_a_link_is_told_and_a_folder_on_another_disk_is_followed(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    (folder.path / "archive").rename(tmp_path / "disk2")
    (folder.path / "archive").symlink_to(tmp_path / "disk2")
    (folder.path / "passwd").symlink_to("/etc/passwd")
    assert "Not saved: passwd: a link" in command(folder, "backup", tmp_path / "a.tar.zst")
    assert "data/archive/cold.tar.gz" in names(tmp_path / "a.tar.zst")
    assert "data/passwd" not in names(tmp_path / "a.tar.zst")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("backup.zip", "let it end with .tar.zst"),
        ("nowhere/a.tar.zst", "There is no folder"),
        ("there.tar.zst", "exists: name another file"),
        ("var/a.tar.zst", "would lie in the folder that is saved"),
    ],
)
def test_a_place_that_can_t_be_is_told(
    filled: DataFolder, command: Command, tmp_path: Path, name: str, said: str
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    (tmp_path / "there.tar.zst").write_bytes(b"mine")
    with pytest.raises(CommandError, match=said):
        command(folder, "backup", tmp_path / name)
    assert (tmp_path / "there.tar.zst").read_bytes() == b"mine"


def test_nothing_and_a_damaged_database_are_not_saved(
    filled: DataFolder, command: Command, tmp_path: Path
) -> None:
    empty = DataFolder(tmp_path / "empty")
    with pytest.raises(CommandError, match="There is nothing to save yet"):
        command(empty, "backup", tmp_path / "a.tar.zst")
    folder = filled.copied_to(tmp_path / "var")
    file = folder.path / "db.sqlite3"
    with file.open("r+b") as out:
        out.seek(file.stat().st_size // 2)
        out.write(b"\xa5" * 65536)
    with pytest.raises(CommandError, match=r"damaged|malformed"):
        command(folder, "backup", tmp_path / "a.tar.zst")
    assert not list(tmp_path.glob("a.*"))


WRITE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30) as connection:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE parts (n INTEGER, fill BLOB)")
    connection.execute("CREATE TABLE whole (n INTEGER)")
    connection.execute("INSERT INTO whole VALUES (0)")
    n = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(20):
            n += 1
            connection.execute("INSERT INTO parts VALUES (?, zeroblob(20000))", (n,))
        connection.execute("UPDATE parts SET n = n + 1")
        connection.execute("DELETE FROM parts WHERE rowid < ?", (n - 400,))
        connection.execute("UPDATE whole SET n = (SELECT SUM(n) FROM parts)")
        connection.execute("COMMIT")
        print(n, flush=True)
"""


def test_a_backup_amid_writes_is_of_one_moment(filled: DataFolder, command: Command, tmp_path: Path) -> None:
    """Each transaction of the writer changes every row of one table, and their sum in another."""
    folder = filled.copied_to(tmp_path / "var")
    words = [sys.executable, "-c", WRITE, str(folder.path / "db.sqlite3")]
    lines: list[bytes] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(writer.stdout,))
        reader.start()
        try:
            wait_for(lambda: len(lines) > 25, "the writer writes")
            for n in range(3):
                before = len(lines)
                command(folder, "backup", tmp_path / f"{n}.tar.zst")
                assert len(lines) > before, "nothing was written meanwhile"
        finally:
            writer.kill()
            reader.join(30)
    for n in range(3):
        (tmp_path / "copy").write_bytes(content_of(tmp_path / f"{n}.tar.zst", "data/db.sqlite3"))
        with closing(sqlite3.connect(tmp_path / "copy")) as copy:
            total, told = copy.execute("SELECT (SELECT SUM(n) FROM parts), n FROM whole").fetchone()
            assert total == told > 0
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",), "it needs a log beside it"


@pytest.mark.parametrize("running", [True, False])
def test_records_that_wait_in_valkey_are_saved_also_while_it_is_stopped(
    filled: DataFolder, command: Command, tmp_path: Path, running: bool
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    (folder.path / "valkey").mkdir()
    with ValkeyServer(folder.path / "run" / "valkey.sock", folder.path / "valkey") as server:
        with redis.from_url(server.url) as client:
            pipeline = client.pipeline()
            for n in range(2500):
                pipeline.xadd(STREAM, {"r": f"{n}"})
            pipeline.execute()
        told = command(folder, "backup", tmp_path / "a.tar.zst") if running else ""
    before = folder.contents()
    if not running:
        told = command(folder, "backup", tmp_path / "a.tar.zst")
        assert folder.contents() == before, "the files of the stopped server stay as they are"
    assert "2,500 request records that waited" in told
    lines = content_of(tmp_path / "a.tar.zst", "waiting/request-records.jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [{"r": str(n)} for n in range(2500)]


def test_another_valkey_that_does_not_answer_is_said_and_unknown(
    filled: DataFolder, command: Command, tmp_path: Path, settings: Any
) -> None:
    settings.VALKEY_EMBEDDED = False
    assert "WARNING: Valkey does not answer" in command(filled, "backup", tmp_path / "a.tar.zst")
    assert json.loads(command(filled, "backup", tmp_path / "b.tar.zst", "--json"))["waiting_records"] is None


@pytest.mark.parametrize("n_bytes", [200_000, 1_200_000])
def test_a_disk_that_fills_leaves_nothing(
    filled: DataFolder, command: Command, tmp_path: Path, n_bytes: int
) -> None:
    """First amid the copy of the database, then amid the packing of what does not get smaller."""
    folder, files = filled.copied_to(tmp_path / "var"), tmp_path / "backups"
    files.mkdir()
    (folder.path / "archive" / "large").write_bytes(os.urandom(2**21))
    before = folder.contents()
    with no_file_over(n_bytes), pytest.raises(CommandError, match=r"can't be (copied|written)"):
        command(folder, "backup", files / "a.tar.zst")
    assert list(files.iterdir()) == []
    assert folder.contents() == before


def test_too_little_room_is_told_first(
    filled: DataFolder, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicleaner_site.backup.making.SPARE_BYTES", 2**62)
    with pytest.raises(CommandError, match=r"MiB free, and up to .* are needed"):
        command(filled, "backup", tmp_path / "a.tar.zst")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_one_that_is_killed_leaves_no_backup_and_the_next_one_clears_up(
    filled: DataFolder, command: Command, tmp_path: Path, number: signal.Signals
) -> None:
    folder = filled.copied_to(tmp_path / "var")
    with (folder.path / "archive" / "large").open("wb") as out:
        out.truncate(shutil.disk_usage(tmp_path).free // 2)  # a hole, which takes a while to be read
    file, partial = tmp_path / "a.tar.zst", tmp_path / "a.tar.zst.partial"
    half = partial / "backup"
    with folder.start("backup", file) as process:
        try:
            wait_for(half.exists, "it packs")
            assert stat.S_IMODE(partial.stat().st_mode) == 0o700
            assert stat.S_IMODE(half.stat().st_mode) == 0o600
            reader = psutil.Process(process.pid)
            wait_for(lambda: any(each.path.endswith("/large") for each in reader.open_files()), "it reads on")
            (folder.path / "archive" / "large").unlink()
            with pytest.raises(CommandError, match="under way"):
                command(folder, "backup", file)
        finally:
            process.send_signal(number)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert not file.exists()
    assert partial.exists() is (number == signal.SIGKILL)
    command(folder, "backup", file)
    assert not partial.exists()
    assert "data/db.sqlite3" in names(file)
