"""One filled data folder for all tests of backups, as making it takes several seconds; and the commands, in this process."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from tests.site.data_folder import DataFolder

Command = Callable[..., str]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """Tests that change it take a copy."""
    return DataFolder(tmp_path_factory.mktemp("filled") / "var").make()


@pytest.fixture
def command(settings: Any, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Command:
    """`command(folder, "backup", file)`: what it says. Raises CommandError."""
    monkeypatch.delenv("AICLEANER_SECRET_KEY")  # that of the tests; those of the folders lie in them

    def call(folder: DataFolder, *words: object) -> str:
        settings.DATA_DIR, settings.RUN_DIR = folder.path, folder.path / "run"
        settings.LOG_DIR, settings.MODELS_DIR = folder.path / "logs", folder.path / "models"
        settings.VALKEY_URL = f"unix://{settings.RUN_DIR / 'valkey.sock'}"
        monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(folder.path / "db.sqlite3"))
        out = StringIO()
        with django_db_blocker.unblock():
            call_command(*map(str, words), stdout=out)
        return out.getvalue()

    return call
