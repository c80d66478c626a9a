"""Models on disk: GGUF files by their SHA-256 (`blobs/`), and one small JSON file per name (`manifests/`)."""

import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from inference.engine.errors import EngineError
from inference.engine.requests import Name, parse_name
from inference.gguf_tools.container import NotGgufError
from inference.gguf_tools.metadata import Metadata, read_metadata

DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})\Z")
log = logging.getLogger("inference.engine")


@dataclass(frozen=True)
class Model:
    """A named model: its file, what that says of itself, and what `create` was told about it. It holds for as long as a
    request or a loaded process needs it, also when the file is deleted meanwhile."""

    name: Name
    path: Path
    digest: str  # of the manifest, as Ollama's
    blob: str  # hexadecimal SHA-256 of the file
    modified_at: datetime
    size: int
    metadata: Metadata = field(repr=False)
    settings: dict[str, Any] = field(
        default_factory=dict
    )  # parameters, template, system, license, messages, parent

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.settings.get("parameters", {}))


class ModelStore:
    """Everything is written beside its place and renamed into it: nothing half-written is ever seen."""

    def __init__(self, root: Path) -> None:
        self.blobs, self.manifests = root / "blobs", root / "manifests"
        for folder in (self.blobs, self.manifests):
            folder.mkdir(parents=True, exist_ok=True)

    def blob_path(self, digest: str) -> Path:
        """`sha256:...` or `sha256-...` -> its file. Raises EngineError 400 for anything else."""
        found = DIGEST.fullmatch(digest)
        if not found:
            raise EngineError(400, f"invalid digest format {json.dumps(digest)}")
        return self.blobs / f"sha256-{found[1]}"

    def all(self) -> list[Model]:
        """Newest first."""
        found = [self._read(path) for path in self.manifests.glob("*.json")]
        return sorted((each for each in found if each), key=lambda each: each.modified_at, reverse=True)

    def find(self, name: str) -> Model | None:
        parsed = parse_name(name)
        return self._read(self._manifest(parsed)) if parsed else None

    def save(self, name: Name, blob: Path, settings: dict[str, Any]) -> Model:
        path = self._manifest(name)
        before = self._read(path)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps({"blob": blob.name, **settings}, indent=1))
        partial.replace(path)
        model = self._read(path)
        if model is None:
            path.unlink(missing_ok=True)
            raise EngineError(404, f"the file of '{name}' was deleted meanwhile")
        if before is not None:
            self._drop_unused(before)
        return model

    def delete(self, model: Model) -> None:
        self._manifest(model.name).unlink(missing_ok=True)
        self._drop_unused(model)

    def _drop_unused(self, model: Model) -> None:
        if not any(each.blob == model.blob for each in self.all()):
            model.path.unlink(missing_ok=True)

    def add_file(self, source: Path) -> Path:
        """Copy a file in as a blob."""
        digest = file_digest(source)
        blob = self.blobs / f"sha256-{digest}"
        if not blob.exists():
            partial = self.new_partial()
            shutil.copyfile(source, partial)
            partial.replace(blob)
        return blob

    def take_in(self, partial: Path) -> Path:
        """Make a finished partial file a blob."""
        blob = self.blobs / f"sha256-{file_digest(partial)}"
        partial.replace(blob)
        return blob

    def new_partial(self) -> Path:
        return self.blobs / f"partial-{os.getpid()}-{os.urandom(6).hex()}"

    def prune(self) -> None:
        """Delete what an interrupted upload or conversion left, and blobs that no name uses; before serving begins.

        While one name's file can't be read, all blobs stay: it might need one."""
        for each in [*self.blobs.glob("partial-*"), *self.manifests.glob("*.part")]:
            each.unlink(missing_ok=True)
        try:
            used = {json.loads(each.read_bytes())["blob"] for each in self.manifests.glob("*.json")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("no unused file is deleted: a name in %s can't be read (%s)", self.manifests, error)
            return
        for each in self.blobs.glob("sha256-*"):
            if each.name not in used:
                log.info("deleting %s, which no name uses", each.name)
                each.unlink(missing_ok=True)

    def _manifest(self, name: Name) -> Path:
        return self.manifests / f"{quote(str(name), safe='')}.json"

    def _read(self, path: Path) -> Model | None:
        try:
            raw = path.read_bytes()
            settings = json.loads(raw)
            blob = settings.pop("blob")
            changed = path.stat().st_mtime_ns
        except (OSError, ValueError, KeyError, TypeError):
            return None
        name = parse_name(unquote(path.stem))
        file = self.blobs / blob
        if name is None:
            return None
        try:
            size, metadata = file.stat().st_size, read_metadata(file)
        except (OSError, NotGgufError):
            return None
        modified = datetime.fromtimestamp(changed / 1e9, UTC)
        digest = hashlib.sha256(raw).hexdigest()
        return Model(name, file, digest, blob.removeprefix("sha256-"), modified, size, metadata, settings)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
