"""A new folder takes the place of the old one in one step of the kernel: whoever is killed leaves the one or the other.

The workspace of a restore lies beside the data folder, as DATA_DIR.restoring: `new` in it is what will take the place, and once
it has, the old one. `exchanging` holds the number of the new folder, so that the next restore can tell which of both it is."""

import ctypes
import errno
import os
import shutil
from pathlib import Path

from aicleaner_site.backup.errors import BackupError

AT_FDCWD, RENAME_EXCHANGE = -100, 2
NEW, MARK = "new", "exchanging"


def workspace_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.restoring")


def put_in_place(folder: Path, workspace: Path, aside: Path | None) -> None:
    """`workspace/new` becomes `folder`. What was there becomes `aside`, or goes where that is None.

    Raises BackupError, OSError."""
    new = workspace / NEW
    if not folder.exists():
        new.rename(folder)
    else:
        _write(workspace / MARK, str(new.stat().st_ino))
        _exchange(new, folder)
        sync(folder.parent)
        try:
            _put_aside(new, aside)
        except OSError as error:
            raise BackupError(
                f"The backup is in place, but the old data can't be moved and lie in {new}: {error.strerror}."
            ) from error
    sync(folder.parent)
    shutil.rmtree(workspace, ignore_errors=True)


def tidy(folder: Path, aside: Path) -> Path | None:
    """What a killed restore left: what it had not put in place goes; an old folder that it had exchanged already becomes
    `aside`, which is returned then."""
    workspace = workspace_of(folder)
    if not workspace.exists():
        return None
    was_exchanged = _is_exchanged(folder, workspace)
    if was_exchanged:
        _put_aside(workspace / NEW, aside)
    shutil.rmtree(workspace)
    return aside if was_exchanged else None


def _is_exchanged(folder: Path, workspace: Path) -> bool:
    try:
        number = int((workspace / MARK).read_text())
    except (FileNotFoundError, ValueError):
        return False
    return (workspace / NEW).is_dir() and folder.is_dir() and folder.stat().st_ino == number


def _put_aside(old: Path, aside: Path | None) -> None:
    if aside is None:
        shutil.rmtree(old)
    else:
        old.rename(aside)


def _exchange(one: Path, other: Path) -> None:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # another system than Linux
        number = errno.ENOSYS
    else:
        done = call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
        number = ctypes.get_errno() if done else 0
    if number in (errno.ENOSYS, errno.EINVAL):
        raise BackupError(
            f"This disk can't exchange two folders in one step: move {other} aside by hand (mv), and restore again."
        )
    if number:
        raise OSError(number, os.strerror(number), str(other))


def _write(file: Path, text: str) -> None:
    with file.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    sync(file.parent)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
