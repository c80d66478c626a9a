"""Killed at each point of the exchange: the old folder or the new one is there, whole, and the old one is never lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from aicleaner_site.backup import swapping
from aicleaner_site.backup.errors import BackupError

KILLED = """
import os, signal, sys
from pathlib import Path
from aicleaner_site.backup import swapping
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(swapping, sys.argv[2], killed)
folder = Path(sys.argv[1])
swapping.put_in_place(folder, swapping.workspace_of(folder), folder.with_name("var.before"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "var"
    folder.mkdir()
    (folder / "file").write_text("old")
    new = swapping.workspace_of(folder) / swapping.NEW
    new.mkdir(parents=True)
    (new / "file").write_text("new")
    return folder


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.parent.iterdir()}


def test_the_new_one_takes_the_place_and_the_old_one_is_kept(folder: Path) -> None:
    swapping.put_in_place(folder, swapping.workspace_of(folder), folder.with_name("var.before"))
    assert (folder / "file").read_text() == "new"
    assert (folder.with_name("var.before") / "file").read_text() == "old"
    assert names(folder) == {"var", "var.before"}


def test_where_nothing_was_nothing_is_kept(folder: Path) -> None:
    (folder / "file").unlink()
    folder.rmdir()
    swapping.put_in_place(folder, swapping.workspace_of(folder), None)
    assert (folder / "file").read_text() == "new"
    assert names(folder) == {"var"}


@pytest.mark.parametrize(("at", "there"), [("_write", "old"), ("_exchange", "old"), ("_put_aside", "new")])
def test_killed_at_any_point_the_next_restore_knows_which_is_which(folder: Path, at: str, there: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), at], check=False)
    assert done.returncode == -9
    assert (folder / "file").read_text() == there
    aside = folder.with_name("var.found")
    assert swapping.tidy(folder, aside) == (aside if there == "new" else None)
    assert (folder / "file").read_text() == there
    assert names(folder) == ({"var", "var.found"} if there == "new" else {"var"})
    if there == "new":
        assert (aside / "file").read_text() == "old"


def test_old_data_that_can_t_be_moved_aside_are_told_with_their_place(folder: Path) -> None:
    taken = folder.with_name("var.before")
    taken.mkdir()
    (taken / "file").write_text("in the way")
    with pytest.raises(BackupError, match=r"in place, but the old data .* lie in .*var\.restoring/new"):
        swapping.put_in_place(folder, swapping.workspace_of(folder), taken)
    assert (folder / "file").read_text() == "new"
    assert swapping.tidy(folder, folder.with_name("var.found")) is not None
    assert (folder.with_name("var.found") / "file").read_text() == "old"
