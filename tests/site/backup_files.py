"""Files of backups, right and wrong ones, written without the product's own writer."""

import io
import tarfile
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import zstandard

from aicleaner_site.backup.manifest import Entry, Manifest

Content = dict[str, bytes]
GOOD: Content = {"data/db.sqlite3": b"rows" * 1000, "waiting/request-records.jsonl": b"", "data/a/b": b"x"}


def manifest(content: Content, **changes: Any) -> Manifest:
    values = {
        "version": "0.1.0",
        "made_at": datetime(2026, 11, 25, tzinfo=UTC),
        "host": "box",
        "database": "sqlite",
        "migrations": (),
        "has_secret_key": True,
        "with_models": False,
        "n_waiting": 0,
        "files": tuple(entry(path, text) for path, text in content.items()),
    }
    return Manifest(**{**values, **changes})


def entry(path: str, text: bytes) -> Entry:
    return Entry(path=path, size=len(text), sha256=sha256(text).hexdigest())


def plain(path: str, text: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.size = len(text)
    return info, text


def members(content: Content, told: Manifest | None = None) -> list[tuple[tarfile.TarInfo, bytes]]:
    text = (told or manifest(content)).model_dump_json().encode()
    return [plain(*each) for each in [*content.items(), ("manifest.json", text)]]


def tar(found: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, text in found:
            archive.addfile(info, io.BytesIO(text))
    return out.getvalue()


def pack(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(raw)


def write(place: Path, content: Content, **changes: Any) -> Path:
    """A backup of `content`, whose manifest is right but for `changes`."""
    place.write_bytes(pack(tar(members(content, manifest(content, **changes)))))
    return place
