"""`manifest.json`, the last entry of a backup."""

import tomllib
from datetime import datetime
from typing import Annotated, Literal

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field

FORMAT: Literal[1] = 1
NAME = "manifest.json"
DATA = "data/"  # before the path of each file of the data folder
DATABASE = "db.sqlite3"  # in the data folder
RECORDS = "waiting/request-records.jsonl"  # request records that were not in the database yet


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """`migrations`: those applied, as `app.name`. `n_waiting`: None where Valkey did not tell. `has_secret_key`: whether a file
    of it holds the key, rather than the environment of where it was made."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    version: str
    made_at: datetime
    host: str
    database: Literal["sqlite", "postgresql"]
    migrations: tuple[str, ...]
    has_secret_key: bool
    with_models: bool
    n_waiting: int | None
    files: tuple[Entry, ...]

    @property
    def content_bytes(self) -> int:
        return sum(each.size for each in self.files)


def product_version() -> str:
    text = (settings.BASE_DIR / "pyproject.toml").read_text()
    return str(tomllib.loads(text)["project"]["version"])
