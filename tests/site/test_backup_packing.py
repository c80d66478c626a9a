"""What is read from a backup: the whole of a right one, and a sentence for every wrong one."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aicleaner_site.backup.errors import BackupError, DamagedError
from aicleaner_site.backup.manifest import Manifest
from aicleaner_site.backup.packing import MAX_WINDOW, Packer, Piece, read_backup
from tests.site.backup_files import GOOD, Content, entry, manifest, members, pack, plain, tar

ROOM = 2**20


def read(packed: bytes, room: int = ROOM) -> Manifest:
    return read_backup(io.BytesIO(packed), room=room, passed=lambda n: None, keep=None)


def packed_by_us(content: Content) -> bytes:
    out = io.BytesIO()
    packer = Packer(out)
    for path, text in content.items():
        packer.add(Piece(path, len(text), 1_700_000_000), io.BytesIO(text), lambda n: None)
    packer.finish(manifest({}, files=tuple(packer.entries)))
    return out.getvalue()


@given(
    st.dictionaries(
        st.from_regex(r"data/[a-zé %:~]{1,130}(/[a-z]{1,120}){0,3}", fullmatch=True), st.binary(max_size=3000)
    )
)
def test_what_is_packed_is_read_again(content: Content) -> None:
    folders = {path[:i] for path in content for i, letter in enumerate(path) if letter == "/"}
    content = {path: text for path, text in content.items() if path not in folders}
    kept: Content = {}

    @contextmanager
    def keep(piece: Piece) -> Iterator[io.BytesIO]:
        assert piece.mtime == 1_700_000_000
        out = io.BytesIO()
        yield out
        kept[piece.path] = out.getvalue()

    found = read_backup(io.BytesIO(packed_by_us(content)), room=ROOM, passed=lambda n: None, keep=keep)
    assert kept == content
    assert {each.path: each for each in found.files} == {
        path: entry(path, text) for path, text in content.items()
    }


def test_tar_itself_opens_it() -> None:
    long = "data/" + "m" * 150
    packed = io.BytesIO(packed_by_us({**GOOD, long: b"model"}))
    with (
        zstandard.ZstdDecompressor().stream_reader(packed) as raw,
        tarfile.open(fileobj=raw, mode="r|") as found,
    ):
        assert found.getnames() == [*GOOD, long, "manifest.json"]


def test_a_file_by_another_writer_is_read() -> None:
    assert read(pack(tar(members(GOOD)))) == manifest(GOOD)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../outside",
        "data/../../outside",
        "data/./x",
        "data//x",
        "data/a\nb",
        "data/a\x1b[2J",
        "data/" + "n" * 300,
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    content = {**GOOD, path: b"x"}
    with pytest.raises(DamagedError, match="no path within a data folder"):
        read(pack(tar(members(content))))


@pytest.mark.parametrize("pair", [("data/x", "data/x"), ("data/x", "data/x/y"), ("data/x/y", "data/x")])
def test_a_path_in_the_way_of_another_is_refused(pair: tuple[str, str]) -> None:
    found = [plain(path, b"1") for path in pair]
    told = manifest(dict.fromkeys(pair, b"1"))
    with pytest.raises(DamagedError, match="twice"):
        read(pack(tar([*found, *members({}, told)])))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
)
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("data/odd")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(DamagedError, match="no plain file"):
        read(pack(tar([(info, b""), *members(GOOD)])))


def test_extended_headers_are_refused() -> None:
    """They may name any length and any path, for the entry after them."""
    info, text = plain("data/x", b"1")
    info.pax_headers = {"path": "../../outside"}
    with pytest.raises(DamagedError, match="no plain file"):
        read(pack(tar([(info, text)], tarfile.PAX_FORMAT)))


def test_a_long_name_may_not_fill_the_memory() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    with pytest.raises(DamagedError, match="no plain file"):
        read(pack(info.tobuf(tarfile.GNU_FORMAT)))


def test_every_way_of_cutting_it_off_is_told() -> None:
    whole = packed_by_us(GOOD)
    for n in range(len(whole)):
        with pytest.raises(DamagedError):
            read(whole[:n])


def test_a_changed_bit_is_refused_or_changes_nothing() -> None:
    """There are bits in the frame's header without a meaning."""
    whole = packed_by_us({"data/db.sqlite3": bytes(range(256))})
    right, n_refused = read(whole), 0
    for place in range(len(whole)):
        for bit in range(8):
            wrong = bytearray(whole)
            wrong[place] ^= 1 << bit
            try:
                assert read(bytes(wrong)) == right, (place, bit)
            except BackupError:
                n_refused += 1
    assert n_refused > 0.9 * 8 * len(whole)


@pytest.mark.parametrize("more", [b"more", pack(b"more")])
def test_what_follows_the_end_is_refused(more: bytes) -> None:
    with pytest.raises(DamagedError, match="behind its end"):
        read(packed_by_us(GOOD) + more)


def test_what_follows_the_manifest_is_refused() -> None:
    found = [*members(GOOD), plain("data/late", b"x")]
    with pytest.raises(DamagedError, match="behind the manifest"):
        read(pack(tar(found)))


def test_what_the_manifest_does_not_say_is_refused() -> None:
    changed = {**GOOD, "data/a/b": b"y"}
    with pytest.raises(DamagedError, match="data/a/b has another content"):
        read(pack(tar(members(changed, manifest(GOOD)))))
    with pytest.raises(DamagedError, match="data/more does not stand in its manifest"):
        read(pack(tar(members({**GOOD, "data/more": b""}, manifest(GOOD)))))
    with pytest.raises(DamagedError, match="data/gone stands in its manifest and is missing"):
        read(pack(tar(members(GOOD, manifest({**GOOD, "data/gone": b""})))))


def test_a_manifest_of_a_later_format_asks_for_a_newer_version() -> None:
    text = manifest(GOOD).model_dump_json().replace('"format":1', '"format":2').encode()
    with pytest.raises(BackupError, match="take a newer version"):
        read(pack(tar([plain("manifest.json", text)])))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no backup at all" * 100,
        pack(b""),
        pack(b"\0" * 1024),
        pack(b"x" * 4096),
        pack(tar([plain("manifest.json", b"{}")])),
    ],
)
def test_what_is_no_backup_is_told(packed: bytes) -> None:
    with pytest.raises(DamagedError):
        read(packed)


def test_it_may_not_be_larger_than_the_room() -> None:
    big = {"data/zeros": bytes(3 * ROOM)}
    with pytest.raises(BackupError, match="for which the disk has no room"):
        read(packed_by_us(big))
    read(packed_by_us(big), room=3 * ROOM)


BOMB = """
import io, resource, sys
from aicleaner_site.backup.errors import BackupError
from aicleaner_site.backup.packing import read_backup
packed = open(sys.argv[1], "rb")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_backup(packed, room=2**50, passed=lambda n: None, keep=None)
except BackupError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """256 MiB of zeros in 25 kB, as one file's content, with a manifest that says something else."""
    info = tarfile.TarInfo("data/zeros")
    info.size = 2**28
    file = tmp_path / "bomb.tar.zst"
    packer = zstandard.ZstdCompressor(level=1)
    with file.open("wb") as raw, packer.stream_writer(raw, closefd=False) as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(256):
            out.write(bytes(2**20))
        out.write(tar(members(GOOD)))
    assert file.stat().st_size < 50_000
    done = subprocess.run([sys.executable, "-c", BOMB, str(file)], capture_output=True, text=True, check=True)
    told, mib = done.stdout.splitlines()
    assert "does not stand in its manifest" in told
    assert int(mib) < 100


def test_a_window_larger_than_ours_is_refused() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=30, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(DamagedError, match="damaged"):
        read(packer.compress(tar(members(GOOD))) + packer.flush())
    assert MAX_WINDOW < 2**30


def test_a_file_that_gets_shorter_is_told() -> None:
    packer = Packer(io.BytesIO())
    with pytest.raises(BackupError, match="data/log changed while it was copied"):
        packer.add(Piece("data/log", 100, 0), io.BytesIO(b"short"), lambda n: None)
