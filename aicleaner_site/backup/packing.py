"""The file of a backup: a tar within Zstandard, so that `tar --zstd -xf` opens it, with the manifest as its last entry.

It is read by hand, header by header: plain files only, names checked, and no size believed that the disk has no room for.
tarfile would follow whatever headers stand in there (links, devices, extensions that name their own length)."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from io import BytesIO
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol

import zstandard
from pydantic import ValidationError

from aicleaner_site.backup.errors import BackupError, DamagedError
from aicleaner_site.backup.manifest import FORMAT, NAME, Entry, Manifest

CHUNK = 2**20
LEVEL = 3
MAX_WINDOW = 2**27
# A block of 4 bytes may stand for 128 KiB: so much is unpacked at a time that 32 MiB come of it at most.
SIP = 1024
BLOCK = 512
MAX_FILES = 200_000
MAX_MANIFEST = 64 * 2**20
MAX_PATH, MAX_NAME = 1024, 255

Told = Callable[[str, int, int], None]  # step, done, total; in bytes


class Piece(NamedTuple):
    """One file of the backup, as its header tells."""

    path: str
    size: int
    mtime: int


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


Keep = Callable[[Piece], AbstractContextManager[Sink]]  # where the content of a piece goes


class Packer:
    def __init__(self, raw: BinaryIO) -> None:
        self._zipped = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(
            raw, closefd=False
        )
        self._tar = tarfile.open(fileobj=self._zipped, mode="w|", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        self.entries: list[Entry] = []

    def add(self, piece: Piece, file: BinaryIO, passed: Callable[[int], None]) -> None:
        """Raises BackupError for a file that got shorter meanwhile."""
        counted = _Counted(file, passed)
        try:
            self._tar.addfile(_header(piece), counted)
        except OSError as error:
            if counted.n_read < piece.size and error.errno is None:
                raise BackupError(f"{piece.path} changed while it was copied: run it again.") from error
            raise
        self.entries.append(Entry(path=piece.path, size=piece.size, sha256=counted.digest.hexdigest()))

    def finish(self, manifest: Manifest) -> None:
        text = manifest.model_dump_json(indent=1).encode()
        self._tar.addfile(_header(Piece(NAME, len(text), int(manifest.made_at.timestamp()))), BytesIO(text))
        self._tar.close()
        self._zipped.close()  # type: ignore[no-untyped-call]


def _header(piece: Piece) -> tarfile.TarInfo:
    header = tarfile.TarInfo(piece.path)
    header.size, header.mtime, header.mode = piece.size, piece.mtime, 0o600
    return header


class _Counted:
    def __init__(self, file: BinaryIO, passed: Callable[[int], None]) -> None:
        self._file, self._passed = file, passed
        self.digest, self.n_read = sha256(), 0

    def read(self, n: int = -1) -> bytes:
        part = self._file.read(n)
        self.digest.update(part)
        self.n_read += len(part)
        self._passed(len(part))
        return part


def read_backup(raw: BinaryIO, *, room: int, passed: Callable[[int], None], keep: Keep | None) -> Manifest:
    """All of it, every SHA-256 compared. Raises BackupError.

    `room`: bytes that the content may have. `passed` hears how far it has read in `raw`. `keep`: None writes nothing."""
    plain = _Plain(raw, passed)
    found: list[Entry] = []
    paths = _Paths()
    manifest, total = None, 0
    for piece in _pieces(plain):
        if manifest is not None:
            raise DamagedError(f"{piece.path} stands behind the manifest, where nothing may.")
        if piece.path == NAME:
            manifest = _manifest(plain.take(_bounded(piece)))
            continue
        paths.add(piece.path)
        total += piece.size
        if total > room:
            raise BackupError(
                f"It holds more than {room / 2**20:,.0f} MiB, for which the disk has no room: free some space first."
            )
        if len(found) >= MAX_FILES:
            raise DamagedError(f"It holds more than {MAX_FILES:,} files.")
        found.append(_content(plain, piece, keep))
    plain.expect_end()
    if manifest is None:
        raise DamagedError("It has no manifest.json: the end is missing, or it is no backup of this product.")
    _compare(found, manifest)
    return manifest


def _content(plain: "_Plain", piece: Piece, keep: Keep | None) -> Entry:
    digest = sha256()
    if keep is None:
        for part in plain.parts(piece.size):
            digest.update(part)
    else:
        with keep(piece) as sink:
            for part in plain.parts(piece.size):
                digest.update(part)
                sink.write(part)
    return Entry(path=piece.path, size=piece.size, sha256=digest.hexdigest())


def _compare(found: list[Entry], manifest: Manifest) -> None:
    told = {each.path: each for each in manifest.files}
    if len(told) != len(manifest.files):
        raise DamagedError("Its manifest names a file twice.")
    for each in found:
        if each.path not in told:
            raise DamagedError(f"{each.path} does not stand in its manifest.")
        if each != told[each.path]:
            raise DamagedError(f"{each.path} has another content than its manifest says (SHA-256).")
    if missing := sorted(told.keys() - {each.path for each in found}):
        raise DamagedError(f"{missing[0]} stands in its manifest and is missing.")


def _bounded(piece: Piece) -> int:
    if piece.size > MAX_MANIFEST:
        raise DamagedError(f"Its manifest has {piece.size:,} bytes, where {MAX_MANIFEST:,} are the most.")
    return piece.size


def _manifest(text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        if any(each["loc"] == ("format",) for each in error.errors()):
            raise BackupError(
                f"It is of a format that this version does not know (it knows {FORMAT}): take a newer version of the product."
            ) from error
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise DamagedError(f"Its manifest can't be read ({place or 'no JSON'}).") from error


class _Paths:
    """The names so far. Raises DamagedError for one that may not be."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, path: str) -> None:
        parts = path.split("/")
        if (
            len(path) > MAX_PATH
            or not path.isprintable()
            or any(part in ("", ".", "..") or len(part.encode()) > MAX_NAME for part in parts)
        ):
            raise DamagedError(f"It holds {path[:100]!r}, which is no path within a data folder.")
        above = {str(each) for each in PurePosixPath(path).parents} - {"."}
        if path in self._files or path in self._folders or above & self._files:
            raise DamagedError(f"It holds {path[:100]} twice.")
        self._files.add(path)
        self._folders |= above


def _pieces(plain: "_Plain") -> Iterator[Piece]:
    """Headers, up to the empty one that ends a tar. The caller takes the content of each before it asks for the next."""
    name = ""
    while (block := plain.take(BLOCK)) != bytes(BLOCK):
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
            raise DamagedError("It is damaged: a header of its tar can't be read.") from error
        if header.type == tarfile.GNUTYPE_LONGNAME and not name and 0 < header.size <= MAX_PATH + 1:
            name = _text(plain.take(header.size).removesuffix(b"\0"))
            plain.take(-header.size % BLOCK)
            continue
        path = name or header.name
        if (
            header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE)
            or header.size < 0
            or block[345:346] != b"\0"
        ):
            raise DamagedError(f"{path[:100]!r} in it is no plain file.")
        name = ""
        yield Piece(path, header.size, max(0, min(int(header.mtime), 2**33)))
        plain.take(-header.size % BLOCK)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DamagedError("It is damaged: a name in it is no text.") from error


class _Plain:
    """What is compressed in `raw`, bit by bit; its end has to be the end of the file. Raises DamagedError."""

    def __init__(self, raw: BinaryIO, passed: Callable[[int], None]) -> None:
        self._raw, self._passed = raw, passed
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
        self._read = memoryview(b"")
        self._waiting = bytearray()

    def take(self, n: int) -> bytes:
        """`n` small: a header, a manifest."""
        return b"".join(self.parts(n))

    def parts(self, n: int) -> Iterator[bytes]:
        while n > 0:
            if not self._waiting and not self._unpack():
                raise DamagedError("It is cut off: the end is missing.")
            part = bytes(self._waiting[: min(n, CHUNK)])
            del self._waiting[: len(part)]
            n -= len(part)
            yield part

    def expect_end(self) -> None:
        """Zeros fill a tar up, and the packing's own sum ends it."""
        while self._waiting or self._unpack():
            if self._waiting.strip(b"\0"):
                raise DamagedError("Something stands behind the end of its tar.")
            self._waiting.clear()
        if not self._unpacker.eof:
            raise DamagedError("It is cut off: the end is missing.")
        if self._unpacker.unused_data or self._read or self._raw.read(1):
            raise DamagedError("Something stands behind its end.")

    def _unpack(self) -> bool:
        """More, unless it is over."""
        while not self._waiting and not self._unpacker.eof:
            if not self._read:
                self._read = memoryview(self._raw.read(CHUNK))
                self._passed(len(self._read))
                if not self._read:
                    return False
            sip, self._read = self._read[:SIP], self._read[SIP:]
            try:
                self._waiting += self._unpacker.decompress(sip)
            except zstandard.ZstdError as error:
                raise DamagedError(f"It is damaged, or not packed by Zstandard ({error}).") from error
        return bool(self._waiting)
