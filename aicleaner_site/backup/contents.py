"""What of the data folder is saved: all but what is made anew by itself, and models unless they are asked for."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from aicleaner_site.backup.packing import MAX_NAME, MAX_PATH

# Sockets and locks, logs, and Valkey's own files: what of it has to survive is asked of the server (waiting.py).
LEFT_OUT = frozenset({"run", "logs", "valkey"})
CHECKPOINTS = "work/checkpoints/"  # the rest of work/ belongs to jobs that run just now
# What processes write before they rename it, and the engine's lock.
HALF = re.compile(
    r"(secret_key|gateway-keys\.json)\.\d+|\.probe-\d+|models/lock|models/blobs/partial-.*|.*\.part|test\.sqlite3.*"
)


@dataclass(frozen=True)
class Found:
    path: str  # within the data folder
    place: Path
    size: int

    @property
    def may_vanish(self) -> bool:
        """Training throws its checkpoints away when it is over; whatever else is gone, something refers to it."""
        return self.path.startswith(CHECKPOINTS)


@dataclass
class Contents:
    files: list[Found] = field(default_factory=list)
    models: list[Found] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # what can't be saved, and why


def collect(database: Path | None) -> Contents:
    """Files of the data folder, the database excepted: that is copied otherwise."""
    contents = Contents()
    root: Path = settings.DATA_DIR
    taken = {f"{database}{ending}" for ending in ("", "-wal", "-shm", "-journal")} if database else set()
    for path, entry in _walk(root, "", contents.odd):
        if entry.path in taken or HALF.fullmatch(path):
            continue
        try:
            path.encode()
            fits = path.isprintable() and len(path) < MAX_PATH - 10 and len(entry.name.encode()) <= MAX_NAME
        except UnicodeEncodeError:
            fits = False
        if not fits:
            contents.odd.append(f"{path!r}: its name can't be written into a backup")
            continue
        try:
            found = Found(path, Path(entry.path), entry.stat().st_size)
        except FileNotFoundError:
            continue
        (contents.models if path.startswith("models/") else contents.files).append(found)
    return contents


def _walk(folder: Path, above: str, odd: list[str]) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Plain files. A link to a folder is followed at the top only, where people move folders to another disk."""
    try:
        entries = sorted(os.scandir(folder), key=lambda each: each.name)
    except FileNotFoundError:
        return
    for entry in entries:
        path = above + entry.name
        if entry.is_dir(follow_symlinks=not above):
            if path not in LEFT_OUT and not (above == "work/" and f"{path}/" != CHECKPOINTS):
                yield from _walk(Path(entry.path), f"{path}/", odd)
        elif entry.is_symlink():
            odd.append(f"{path}: a link; what it leads to is not saved")
        elif entry.is_file(follow_symlinks=False):
            yield path, entry


def holds_data() -> bool:
    """Whether there is something in the data folder that a restore would put away."""
    contents = collect(None)
    return bool(contents.files or contents.models or contents.odd)
