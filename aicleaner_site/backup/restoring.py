"""Puts a backup in the place of the data folder: the whole of it, or nothing."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import psutil
from django.conf import settings
from django.db import DatabaseError
from django.db.migrations.exceptions import InconsistentMigrationHistory

from aicleaner_site import preflight
from aicleaner_site.backup import contents, databases, swapping
from aicleaner_site.backup.errors import BackupError, DamagedError
from aicleaner_site.backup.manifest import DATA, DATABASE, RECORDS, Manifest, product_version
from aicleaner_site.backup.packing import Keep, Piece, Told, read_backup
from aicleaner_site.backup.waiting import from_lines
from inference.services import store_entries

SPARE_BYTES = 64 * 2**20  # for what migrations write
BATCH = 500


@dataclass(frozen=True)
class Restored:
    """`aside`: where the old data are. `hindrances`: what would refuse it, of a dry run. `newer`: migrations applied to it."""

    manifest: Manifest
    aside: Path | None = None
    unfinished: Path | None = None  # old data that a killed restore had left
    hindrances: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    models_kept: bool = False


def examine(file: Path, *, force: bool, told: Told) -> Restored:
    """All that `restore` checks, and no change. Raises BackupError for a file that can't be restored."""
    with _opened(file) as raw:
        manifest = _check(raw, told)
    return Restored(manifest, hindrances=tuple(_hindrances(force)), newer=_newer(manifest))


def restore(file: Path, *, force: bool, now: datetime, told: Told) -> Restored:
    """Raises BackupError; the data folder is as it was then, unless it says otherwise."""
    folder: Path = settings.DATA_DIR
    aside = folder.with_name(f"{folder.name}.before-{now:%Y%m%d-%H%M%S}")
    with _opened(file) as raw:
        if hindrance := next(_hindrances(force), ""):
            raise BackupError(hindrance)
        manifest = _check(raw, told)
        with _alone():
            return _put_in_place(raw, manifest, aside, told)


def _put_in_place(raw: BinaryIO, manifest: Manifest, aside: Path, told: Told) -> Restored:
    folder: Path = settings.DATA_DIR
    try:
        unfinished = swapping.tidy(folder, aside.with_name(f"{aside.name}-unfinished"))
        workspace = swapping.workspace_of(folder)
        (workspace / swapping.NEW).mkdir(mode=0o700, parents=True)
        workspace.chmod(0o700)
        try:
            kept = _prepare(raw, workspace / swapping.NEW, manifest, told)
            used = _is_used(folder)
            swapping.put_in_place(folder, workspace, aside if used else None)
        except BaseException:
            with suppress(OSError):
                swapping.tidy(folder, aside)
            raise
    except (OSError, DatabaseError, InconsistentMigrationHistory) as error:
        raise BackupError(
            f"The backup can't be restored: {_reason(error)}. {folder} is as it was."
        ) from error
    return Restored(manifest, aside if used else None, unfinished, newer=_newer(manifest), models_kept=kept)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error)


def _is_used(folder: Path) -> bool:
    """Whether there is a file to keep: data, or logs."""
    return any(each.is_file() and each.parent != settings.RUN_DIR for each in folder.rglob("*"))


def _prepare(raw: BinaryIO, new: Path, manifest: Manifest, told: Told) -> bool:
    """The whole new data folder, of this version. Whether models of the old one are in it."""
    records = new.parent / "records"
    raw.seek(0)
    size = os.fstat(raw.fileno()).st_size
    again = read_backup(
        raw, room=manifest.content_bytes, passed=_counter("unpack", size, told), keep=_keeper(new, records)
    )
    if again != manifest or databases.migrations_of(new / DATABASE) != manifest.migrations:
        raise DamagedError(
            "Its database has other migrations than its manifest says, or it changed meanwhile."
        )
    entries = from_lines(records.read_bytes())
    with databases.database_in(new):
        databases.migrate()
        for start in range(0, len(entries), BATCH):
            store_entries(entries[start : start + BATCH])
    (new / DATABASE).chmod(0o600)
    kept = not manifest.with_models and _keep_models(settings.MODELS_DIR, new / settings.MODELS_DIR.name)
    for place in (new, *(each for each in new.rglob("*") if each.is_dir())):
        swapping.sync(place)
    return kept


def _keep_models(old: Path, new: Path) -> bool:
    """Those that are here stay, where the backup has none: other names for the same files, which take no room. False where
    there are none, or where they lie on a disk of their own."""
    if old.is_symlink():
        new.symlink_to(old.readlink())
        return True
    found = contents.collect(None).models
    try:
        for each in found:
            place = new / each.place.relative_to(old)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.hardlink_to(each.place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.rmtree(new)
        return False
    return bool(found)


def _keeper(new: Path, records: Path) -> Keep:
    @contextmanager
    def keep(piece: Piece) -> Iterator[BinaryIO]:
        place = records if piece.path == RECORDS else new / piece.path.removeprefix(DATA)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.utime(place, (piece.mtime, piece.mtime))

    return keep


def _check(raw: BinaryIO, told: Told) -> Manifest:
    """Every entry, before anything is written. Raises BackupError."""
    size = os.fstat(raw.fileno()).st_size
    room = shutil.disk_usage(_nearest(settings.DATA_DIR.parent)).free - SPARE_BYTES
    manifest = read_backup(raw, room=max(0, room), passed=_counter("check", size, told), keep=None)
    for each in manifest.files:
        if not (each.path == RECORDS or each.path.startswith(DATA)) or _is_made_anew(each.path):
            raise DamagedError(f"It holds {each.path}, which belongs in no backup.")
    sizes = {each.path: each.size for each in manifest.files}
    if not {DATA + DATABASE, RECORDS} <= sizes.keys():
        raise DamagedError("It holds no database.")
    if unknown := databases.unknown_migrations(manifest.migrations):
        raise BackupError(
            f"It was made by a newer version of the product ({manifest.version}; this is {product_version()}), whose "
            f"database this one does not know ({unknown[0]}{' and more' * (len(unknown) > 1)}): update the product first."
        )
    if _newer(manifest) and manifest.content_bytes + sizes[DATA + DATABASE] > room:
        raise BackupError(
            "The disk has no room to bring its database to this version: free some space first."
        )
    return manifest


def _is_made_anew(path: str) -> bool:
    within = path.removeprefix(DATA)
    return within.split("/")[0] in contents.LEFT_OUT or within.startswith(f"{DATABASE}-")


def _newer(manifest: Manifest) -> tuple[str, ...]:
    return databases.missing_migrations(manifest.migrations)


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _counter(step: str, total: int, told: Told) -> Callable[[int], None]:
    done = 0

    def passed(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        told(step, done, total)

    return passed


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as raw:
            yield raw
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename != str(file):
            raise
        raise BackupError(f"{file} can't be read: {error.strerror}.") from error


def _hindrances(force: bool) -> Iterator[str]:
    folder: Path = settings.DATA_DIR
    if not databases.is_sqlite() or databases.sqlite_file() != folder / DATABASE:
        yield (
            f"DATABASE_URL names another database than {folder / DATABASE}, into which a backup is restored: unset it."
        )
    if folder.is_mount():
        yield f"{folder} is a mount point, which can't be exchanged: set AICLEANER_DATA_DIR to a folder within it."
    if holder := preflight.holder():
        yield f"AICleaner Performance runs on {folder} (pid {holder}): stop it with Ctrl-C first."
    elif user := _user_of(folder):
        yield f"{user} uses files in {folder}: stop it first."
    if not force and contents.holds_data():
        yield f"{folder} holds data: give --force, which moves them aside (nothing is deleted), or set AICLEANER_DATA_DIR."


def _user_of(folder: Path) -> str | None:
    """A process of the product that was started by hand; as far as this user may look. Who reads logs is none."""
    for process in psutil.process_iter():
        try:
            places = [Path(each.path) for each in process.open_files()]
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and any(
            each.is_relative_to(folder) and not each.is_relative_to(settings.LOG_DIR) for each in places
        ):
            return f"{process.name()} (pid {process.pid})"
    return None


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody starts the product on the folder meanwhile. One that is made for the lock goes again when nothing came of it."""
    folder: Path = settings.DATA_DIR
    made = not folder.exists()
    settings.RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with preflight.take_lock():
            try:
                yield
            except BaseException:
                if made and folder.exists() and not _is_used(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                raise
    except preflight.CannotStartError as error:
        raise BackupError(str(error)) from error
