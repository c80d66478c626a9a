"""The database, copied while others write to it; its migrations beside those of this version."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from aicleaner_site.backup.errors import BackupError
from aicleaner_site.backup.manifest import DATABASE
from aicleaner_site.backup.packing import Told

PAGES = 1024  # copied at a time
STEP = "copy the database"


def is_sqlite() -> bool:
    return bool(settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3")


def sqlite_file() -> Path:
    return Path(settings.DATABASES["default"]["NAME"])


def copy_sqlite(source: Path, target: Path, told: Told) -> None:
    """One moment of `source`, whatever is written to it meanwhile. Raises BackupError.

    The transaction that is open for reading holds the moment: without it the copying would begin anew with each write."""
    try:
        with closing(_opened(source)) as live, closing(sqlite3.connect(target)) as copy:
            live.execute("BEGIN")
            live.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            page = int(live.execute("PRAGMA page_size").fetchone()[0])
            live.backup(
                copy,
                pages=PAGES,
                progress=lambda _, left, total: told(STEP, (total - left) * page, total * page),
            )
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            found = str(copy.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        raise BackupError(f"The database {source} can't be copied: {error}.") from error
    if found != "ok":
        raise BackupError(
            f"The database {source} is damaged ({found}): nothing was saved. An earlier backup may help."
        )


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=20, isolation_level=None)


def migrations_of(file: Path) -> tuple[str, ...]:
    """Those applied, in their order. Raises BackupError for what is no database of the product."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT app, name FROM django_migrations ORDER BY id").fetchall()
    except sqlite3.Error as error:
        raise BackupError(f"{file.name} is no database of the product ({error}).") from error
    return tuple(f"{app}.{name}" for app, name in rows)


def unknown_migrations(applied: Iterable[str]) -> list[str]:
    """Those that this version does not have: a newer one made them."""
    known = MigrationLoader(None).disk_migrations.values()
    replaced = {f"{app}.{name}" for each in known for app, name in each.replaces}
    return sorted(set(applied) - _names(known) - replaced)


def missing_migrations(applied: Iterable[str]) -> tuple[str, ...]:
    """Those of this version that are not applied yet."""
    return tuple(sorted(_names(MigrationLoader(None).disk_migrations.values()) - set(applied)))


def _names(migrations: Iterable[Migration]) -> set[str]:
    return {f"{each.app_label}.{each.name}" for each in migrations}


@contextmanager
def database_in(folder: Path) -> Iterator[None]:
    """Django's own connection leads to the database of another data folder, and is closed afterwards."""
    connection = connections["default"]
    connection.close()
    before = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = str(folder / DATABASE)
    try:
        yield
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)
