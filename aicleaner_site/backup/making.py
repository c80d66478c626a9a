"""Makes a backup, while the product runs or not."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from django.conf import settings

from aicleaner_site.backup import contents, databases
from aicleaner_site.backup.errors import BackupError
from aicleaner_site.backup.manifest import DATA, DATABASE, RECORDS, Manifest, product_version
from aicleaner_site.backup.packing import Packer, Piece, Told
from aicleaner_site.backup.swapping import sync
from aicleaner_site.backup.waiting import as_lines, waiting_records

ENDING = ".tar.zst"
SPARE_BYTES = 16 * 2**20
STEP = "pack"


@dataclass(frozen=True)
class Made:
    """`models_bytes`: of those that were left out. `odd`: what could not be saved, a line each."""

    file: Path
    n_bytes: int
    manifest: Manifest
    database_bytes: int
    models_bytes: int
    odd: list[str]


def make_backup(file: Path, *, with_models: bool, now: datetime, told: Told) -> Made:
    """`file` is there afterwards, whole; or nothing of it. Raises BackupError."""
    file = file.parent.resolve() / file.name
    _check_place(file)
    try:
        with _workspace(file) as work:
            making = _Making(work, with_models, now, told)
            made = making.run(work / "backup")
            if file.exists():
                raise BackupError(f"{file} exists meanwhile: it was left as it is.")
            made.rename(file)
            sync(file.parent)
    except OSError as error:
        raise BackupError(f"The backup can't be written: {error.strerror or error}.") from error
    manifest = making.manifest
    return Made(
        file,
        file.stat().st_size,
        manifest,
        making.database_bytes,
        0 if with_models else sum(each.size for each in making.found.models),
        making.found.odd,
    )


def _check_place(file: Path) -> None:
    if not file.name.endswith(ENDING) or file.name == ENDING:
        raise BackupError(f"{file.name} is no name of a backup: let it end with {ENDING}.")
    if not file.parent.is_dir():
        raise BackupError(f"There is no folder {file.parent}: make it first.")
    if file.is_relative_to(settings.DATA_DIR):
        raise BackupError(
            f"{file} would lie in the folder that is saved: name a place outside {settings.DATA_DIR}."
        )
    if file.exists():
        raise BackupError(f"{file} exists: name another file, or delete it first.")
    if not databases.is_sqlite():
        raise BackupError(
            "DATABASE_URL names a PostgreSQL server, which is not saved by this command: save it by pg_dump, with a copy of "
            f"{settings.DATA_DIR} beside it (secret key, archives)."
        )
    if not databases.sqlite_file().is_file():
        raise BackupError(f"There is nothing to save yet: {databases.sqlite_file()} does not exist.")


@contextmanager
def _workspace(file: Path) -> Iterator[Path]:
    """A private folder beside the file; what a killed backup to the same file left in there goes first."""
    work = file.with_name(f"{file.name}.partial")
    work.mkdir(mode=0o700, exist_ok=True)
    if work.is_symlink() or work.stat().st_uid != os.getuid():
        raise BackupError(f"{work} is another user's: remove it, or name a file in a folder of your own.")
    work.chmod(0o700)
    with (work / "lock").open("a") as lock:
        _lock(lock, file)
        try:
            for each in work.iterdir():
                if each.name != "lock":
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _lock(lock: IO[str], file: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BackupError(f"Another backup to {file} is under way.") from error


@dataclass
class _Making:
    work: Path
    with_models: bool
    now: datetime
    told: Told
    found: contents.Contents = field(default_factory=contents.Contents)
    database_bytes: int = 0

    def run(self, target: Path) -> Path:
        """The order matters: what is stored, or made, in between is in both places rather than in none."""
        source = databases.sqlite_file()
        self._need_room(sum(each.size for each in self._files(source)) + 2 * sum(_sizes(source)))
        records = waiting_records(self.work)
        database, lines = self.work / DATABASE, self.work / "records"
        databases.copy_sqlite(source, database, self.told)
        lines.write_bytes(as_lines(records or []))
        self.database_bytes = database.stat().st_size
        files = self._files(source)  # once more: also what came with the last rows
        n_bytes = sum(each.size for each in files)
        self._total, self._done = n_bytes + self.database_bytes + lines.stat().st_size, 0
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            packer = Packer(raw)
            self._pack(packer, DATA + DATABASE, database)
            self._pack(packer, RECORDS, lines)
            for each in files:
                self._pack(packer, DATA + each.path, each.place, may_vanish=each.may_vanish)
            self.manifest = self._manifest(packer, databases.migrations_of(database), records)
            packer.finish(self.manifest)
            raw.flush()
            os.fsync(raw.fileno())
        return target

    def _files(self, source: Path) -> list[contents.Found]:
        self.found = contents.collect(source)
        return [*self.found.files, *(self.found.models if self.with_models else [])]

    def _need_room(self, n_bytes: int) -> None:
        """As if nothing got smaller by packing: models and archives do not."""
        needed, free = int(n_bytes * 1.01) + SPARE_BYTES, shutil.disk_usage(self.work).free
        if free < needed:
            raise BackupError(
                f"The disk of {self.work.parent} has {free / 2**20:,.0f} MiB free, and up to {needed / 2**20:,.0f} MiB are "
                "needed: free some space, or name a file on another disk."
            )

    def _pack(self, packer: Packer, path: str, place: Path, *, may_vanish: bool = False) -> None:
        try:
            with place.open("rb") as source:
                about = os.fstat(source.fileno())
                packer.add(Piece(path, about.st_size, int(about.st_mtime)), source, self._passed)
        except FileNotFoundError as error:
            if not may_vanish:
                raise BackupError(f"{path} vanished while it was copied: run it again.") from error

    def _passed(self, n_bytes: int) -> None:
        self._done += n_bytes
        self.told(STEP, self._done, max(self._total, self._done))

    def _manifest(
        self, packer: Packer, migrations: tuple[str, ...], records: list[dict[str, str]] | None
    ) -> Manifest:
        return Manifest(
            version=product_version(),
            made_at=self.now,
            host=settings.HOST_NAME,
            database="sqlite",
            migrations=migrations,
            has_secret_key=not os.environ.get("AICLEANER_SECRET_KEY")
            and any(each.path == f"{DATA}secret_key" for each in packer.entries),
            with_models=self.with_models,
            n_waiting=None if records is None else len(records),
            files=tuple(packer.entries),
        )


def _sizes(database: Path) -> list[int]:
    """Of the file and of its log."""
    return [each.stat().st_size for each in (database, Path(f"{database}-wal")) if each.exists()]
