"""Training that is not over, on the disk: so that a job that was cancelled, or whose worker was killed, can go on.

DATA_DIR/work/checkpoints/KEY/ outlives its job's folder. KEY is a digest of all that decides the result, so that a job which
asks for the same finds it. `about.json` says what it is, `data.json` holds layers and examples, a `.pt` file each student.
They are gone when the job is done, when a person throws them away, when more than MAX_KEPT are there (the oldest first), or
after KEEP_DAYS."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

MAX_KEPT = 3
KEEP_DAYS = 14
DAY_S = 86400.0
KEY = re.compile(r"[0-9a-f]{24}")
ABOUT, DATA = "about.json", "data.json"
FORMAT = 1  # of what lies in the folder, and of the training itself: another one finds nothing


class About(BaseModel):
    """`job`: the last one that wrote it. `done`, `total`: steps of both students together."""

    model_config = ConfigDict(frozen=True)

    key: str
    job: int
    engine_kind: str
    source: str
    target: str
    done: int
    total: int
    saved_at: float  # seconds since 1970
    n_bytes: int = 0  # of the folder, as it is now


def key_of(wanted: Mapping[str, Any]) -> str:
    text = json.dumps({"format": FORMAT, **wanted}, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:24]


def kept(root: Path) -> list[About]:
    """The newest first; folders without a readable `about.json` are none."""
    found = []
    for folder in root.glob("*"):
        try:
            about = About.model_validate_json((folder / ABOUT).read_bytes())
            n_bytes = sum(each.stat().st_size for each in folder.iterdir())
        except (OSError, ValidationError):
            continue
        if about.key == folder.name:
            found.append(about.model_copy(update={"n_bytes": n_bytes}))
    return sorted(found, key=lambda each: each.saved_at, reverse=True)


def throw_away(root: Path, key: str) -> bool:
    """False where there is none of that key."""
    folder = root / key
    if not KEY.fullmatch(key) or not folder.is_dir():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def tidy(root: Path, *, now: float, but_for: str = "") -> None:
    """Hold to the bounds; `but_for`: the key that is in use. What a killed process left without `about.json` goes too, once
    it is a day old: it may be one that begins just now."""
    found = [each for each in kept(root) if each.key != but_for]
    most = MAX_KEPT - bool(but_for)
    for number, each in enumerate(found):
        if number >= most or now - each.saved_at > KEEP_DAYS * DAY_S:
            throw_away(root, each.key)
    known = {each.key for each in found} | {but_for}
    for folder in root.glob("*"):
        if folder.name not in known and folder.is_dir() and now - folder.stat().st_mtime > DAY_S:
            shutil.rmtree(folder, ignore_errors=True)


class Keeper:
    """The folder of one distillation, while it is worked on."""

    def __init__(self, root: Path, about: About) -> None:
        self.root, self.folder = root, root / about.key
        self.folder.mkdir(parents=True, exist_ok=True)
        before = next((each.done for each in kept(root) if each.key == about.key), 0)
        self.about = about.model_copy(update={"done": before})
        for each in self.folder.glob("*.part"):  # a killed process left it
            each.unlink(missing_ok=True)

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """Appears whole or not at all, also when the machine loses its power: written, synced, renamed, synced."""
        partial = self.folder / f"{name}.part"
        try:
            with partial.open("wb") as out:
                fill(out)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def note(self, done: int | None = None) -> None:
        """`done`: steps of both students; as many as before unless said."""
        done = self.about.done if done is None else done
        self.about = self.about.model_copy(update={"done": done, "saved_at": time.time()})
        text = self.about.model_dump_json(exclude={"n_bytes"})
        self.write(ABOUT, lambda out: out.write(text.encode()))

    def remove(self) -> None:
        throw_away(self.root, self.about.key)
