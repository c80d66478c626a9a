"""Packs a model that is rarely needed, and makes it again bit for bit.

An archive is a tar file within gzip or Zstandard: `model.gguf`, then `model.json` with all that `create` has to be told.
So it needs nothing of ours to be opened. It is written to the job's own folder; whoever started the job moves it to its place."""

import gzip
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import zstandard
from pydantic import BaseModel, ConfigDict, ValidationError

from inference.gguf_tools.container import NotGgufError
from inference.work.engine import FROM, EngineClient
from inference.work.make import settings_of
from inference.work.messages import WorkError, say, step
from inference.work.plan import JobPlan, Packing
from inference.work.room import need_room

GGUF, ABOUT = "model.gguf", "model.json"
PACKED = "archive.packed"  # in the job's folder
MAX_ABOUT = 16 * 2**20
LEVEL = (
    6  # of both; higher takes several times the time for a thousandth of the size: weights hardly compress
)
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
CHUNK = 2**20
WORST = 1.005  # what can't be compressed is stored, in blocks with a head
SPARE_BYTES = 2**20

DAMAGED = (OSError, EOFError, zlib.error, zstandard.ZstdError, tarfile.TarError, ValidationError)


class About(BaseModel):
    """What stands in `model.json`. `create`: template, system, parameters, license, messages, as the engine takes them."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    name: str
    quantization: str
    size_bytes: int
    sha256: str
    create: dict[str, Any]
    modelfile: str = ""  # for people


def archive_model(engine: EngineClient, plan: JobPlan) -> None:
    """Leaves the archive in `plan.folder`, read back and compared. Nothing is deleted. Raises WorkError."""
    started = time.monotonic()
    tag, file = engine.tag(plan.source), only_file(engine, plan.source)
    packed = plan.folder / PACKED
    try:
        need_room(plan.folder, int(file.stat().st_size * WORST) + SPARE_BYTES)
        about = _pack(engine, plan.source, tag.quantization, file, packed, plan.packing)
        if read_back(packed, "read it back") != about:
            raise WorkError("The archive reads back otherwise than it was written; it was thrown away.")
        if engine.tag(plan.source).digest != tag.digest:
            raise WorkError(f"{plan.source} was made anew meanwhile; archive it once more.")
    except (OSError, NotGgufError) as error:
        packed.unlink(missing_ok=True)
        raise WorkError(
            f"The archive can't be written: {getattr(error, 'strerror', None) or error}."
        ) from error
    except BaseException:
        packed.unlink(missing_ok=True)
        raise
    say(
        "archived",
        model_digest=tag.digest,
        quantization=tag.quantization,
        size_bytes=about.size_bytes,
        sha256=about.sha256,
        archive_bytes=packed.stat().st_size,
        took_s=time.monotonic() - started,
    )


def only_file(engine: EngineClient, name: str) -> Path:
    """The model's one file on this machine. Raises WorkError."""
    modelfile = engine.show(name).get("modelfile") or ""
    if len(FROM.findall(modelfile)) > 1 or "\nADAPTER " in modelfile:
        raise WorkError(f"{name} has more files than one (a projector or an adapter): such are not archived.")
    file = engine.file_of(name)
    if file is None:
        raise WorkError(f"The file of {name} does not lie on this machine: archive it where its engine runs.")
    return file


def _pack(
    engine: EngineClient, name: str, quantization: str, file: Path, packed: Path, packing: Packing
) -> About:
    size, known = file.stat().st_size, engine.show(name)
    with file.open("rb") as source, packed.open("wb") as raw:
        counted = _Counted(source, "compress", size)
        with (
            _compressed(raw, packing) as zipped,
            tarfile.open(fileobj=zipped, mode="w|") as tar,
        ):
            tar.addfile(_entry(GGUF, size), counted)
            digest = counted.digest.hexdigest()
            if file.name.startswith("sha256-") and file.name != f"sha256-{digest}":
                raise WorkError(f"The engine's file of {name} is damaged: its content has another digest.")
            about = About(
                name=name,
                quantization=quantization,
                size_bytes=size,
                sha256=digest,
                create=settings_of(known, file),
                modelfile=known.get("modelfile") or "",
            )
            text = about.model_dump_json(indent=1).encode()
            tar.addfile(_entry(ABOUT, len(text)), BytesIO(text))
    return about


def _compressed(raw: IO[bytes], packing: Packing) -> Any:
    """A file to write to. Both kinds end with a check sum."""
    if packing == "zstd":
        return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(raw, closefd=False)
    return gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=LEVEL, filename="", mtime=0)


def _plain(raw: IO[bytes]) -> Any:
    """A file to read from, whichever kind it is."""
    magic = raw.read(len(ZSTD_MAGIC))
    raw.seek(0)
    if magic == ZSTD_MAGIC:
        return zstandard.ZstdDecompressor().stream_reader(raw, closefd=False)
    return gzip.GzipFile(fileobj=raw, mode="rb")


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


class _Counted:
    """A file that is read once, with its digest and its progress."""

    def __init__(self, file: IO[bytes], doing: str, total: int) -> None:
        self.file, self.doing, self.total = file, doing, total
        self.digest, self.done = sha256(), 0

    def read(self, n: int = -1) -> bytes:
        part = self.file.read(n)
        self.digest.update(part)
        self.done += len(part)
        step(self.doing, self.done, self.total, "bytes")
        return part


@contextmanager
def _opened(file: Path) -> Iterator[tuple[tarfile.TarFile, IO[bytes]]]:
    """Whatever is wrong with it becomes a sentence."""
    try:
        with (
            file.open("rb") as raw,
            _plain(raw) as zipped,
            tarfile.open(fileobj=zipped, mode="r|") as tar,
        ):
            yield tar, zipped
    except FileNotFoundError as error:
        raise WorkError(f"The archive {file.name} is gone from {file.parent}.") from error
    except DAMAGED as error:
        raise WorkError(f"The archive {file.name} is damaged ({type(error).__name__}).") from error


def read_back(file: Path, doing: str) -> About:
    """All of it, with every check sum. Raises WorkError when it is damaged."""
    digest, about = "", None
    with _opened(file) as (tar, zipped):
        for entry in tar:
            content = tar.extractfile(entry)
            if content is None:
                continue
            if entry.name == GGUF:
                counted = _Counted(content, doing, entry.size)
                while counted.read(CHUNK):
                    pass
                digest = counted.digest.hexdigest()
            elif entry.name == ABOUT:
                about = About.model_validate_json(content.read(MAX_ABOUT))
        while zipped.read(CHUNK):  # to the end, where the packing's own sum stands
            pass
    if about is None or about.sha256 != digest:
        raise WorkError(f"The archive {file.name} is damaged: its model has another digest than it says.")
    return about


def _gguf(file: Path, total: int) -> Iterator[bytes]:
    with _opened(file) as (tar, _):
        for entry in tar:
            if entry.name == GGUF and (content := tar.extractfile(entry)) is not None:
                counted = _Counted(content, "hand over", total)
                while part := counted.read(CHUNK):
                    yield part
                return


def unarchive_model(engine: EngineClient, plan: JobPlan) -> None:
    """`plan.target` exists afterwards, from the same bytes; or nothing of it. Raises WorkError.

    The archive is read whole first, and then straight into the engine: no room is needed but the engine's."""
    started = time.monotonic()
    engine.refuse_taken(plan.target)
    about = read_back(plan.archive, "check the archive")
    need_room(_models_folder(engine, plan), about.size_bytes + SPARE_BYTES)
    engine.send_blob(f"sha256:{about.sha256}", _gguf(plan.archive, about.size_bytes))
    engine.refuse_taken(plan.target)  # that took a while
    for _ in engine.create(plan.target, files={GGUF: f"sha256:{about.sha256}"}, **about.create):
        pass
    made, file = engine.tag(plan.target), engine.file_of(plan.target)
    if file is not None:
        with file.open("rb") as written:
            if file_digest(written, "sha256").hexdigest() != about.sha256:
                engine.delete(plan.target)
                raise WorkError(f"The engine changed the file of {plan.target}; it was deleted again.")
    say(
        "unarchived",
        model_digest=made.digest,
        sha256=about.sha256,
        compared=file is not None,
        took_s=time.monotonic() - started,
    )


def _models_folder(engine: EngineClient, plan: JobPlan) -> Path:
    """Where the engine keeps its files: beside those of its other models; without one, the product's own disk."""
    files = (engine.file_of(name) for name in engine.tags())
    return next((each.parent for each in files if each is not None), plan.folder)
