"""The GGUF container: its header read without its tensors, and written again with other tensors.

The gguf package's reader makes an array of every token of the vocabulary, 20 s and 750 MB for one of 150,000; this one
steps over what nobody asked for. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""

import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import gguf
from gguf import GGMLQuantizationType as TensorType
from gguf import GGUFValueType as Kind

SCALARS = {
    Kind.UINT8: "B",
    Kind.INT8: "b",
    Kind.UINT16: "H",
    Kind.INT16: "h",
    Kind.UINT32: "I",
    Kind.INT32: "i",
    Kind.FLOAT32: "f",
    Kind.BOOL: "?",
    Kind.UINT64: "Q",
    Kind.INT64: "q",
    Kind.FLOAT64: "d",
}
MAX_DIMENSIONS = 4


class NotGgufError(ValueError):
    """The file can't be read as GGUF."""


@dataclass(frozen=True)
class Tensor:
    """`shape`: fastest dimension first, as GGUF writes it; `offset`: bytes from the beginning of the file."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    offset: int

    @property
    def n_elements(self) -> int:
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return tensor_bytes(self.type, self.shape)


@dataclass(frozen=True)
class Header:
    """Keys and tensors of a file. Of arrays the value is None unless they were asked for; `spans` are the places of the
    keys in the file (begin, end), to copy them as they are."""

    keys: dict[str, Any]
    spans: dict[str, tuple[int, int]]
    tensors: tuple[Tensor, ...]
    alignment: int


def tensor_bytes(kind: TensorType, shape: tuple[int, ...]) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return prod(shape) // block * size


class _Cursor:
    """Reads forward through a file; struct.error at its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return value

    def skip(self, n_bytes: int) -> int:
        """Place before the step."""
        start = self.place
        if n_bytes > len(self.data) - start:
            raise NotGgufError("the file ends within its header")
        self.place += n_bytes
        return start

    def text(self) -> str:
        length = self.number("Q")
        start = self.skip(length)
        return self.data[start : start + length].decode("utf-8", "replace")

    def array(self, *, wanted: bool) -> list[Any] | None:
        kind, length = Kind(self.number("I")), self.number("Q")
        if kind in SCALARS:
            start = self.skip(length * struct.calcsize(SCALARS[kind]))
            return list(struct.unpack_from(f"<{length}{SCALARS[kind]}", self.data, start)) if wanted else None
        if kind != Kind.STRING:
            raise NotGgufError("an array of arrays")
        if wanted:
            return [self.text() for _ in range(length)]
        for _ in range(length):
            self.skip(self.number("Q"))
        return None

    def value(self, *, arrays: bool) -> Any:
        kind = Kind(self.number("I"))
        if kind == Kind.ARRAY:
            return self.array(wanted=arrays)
        return self.text() if kind == Kind.STRING else self.number(SCALARS[kind])


def read_header(path: Path, *, arrays: bool = False) -> Header:
    """Raises NotGgufError, also for a file that ends before its last tensor does."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Cursor(data), arrays=arrays)
    except OSError as error:
        raise NotGgufError(f"{path.name} can't be read: {error.strerror}") from error
    except (ValueError, struct.error, OverflowError, MemoryError) as error:
        raise NotGgufError(f"invalid file magic or damaged GGUF: {error}") from error


def _read(cursor: _Cursor, *, arrays: bool) -> Header:
    if cursor.data[:4] != b"GGUF":
        raise NotGgufError("it does not begin with GGUF")
    cursor.skip(4)
    version = cursor.number("I")
    if version not in (2, 3):
        raise NotGgufError(f"version {version}, where 2 and 3 are known")
    n_tensors, n_keys = cursor.number("Q"), cursor.number("Q")
    keys: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(n_keys):
        start = cursor.place
        name = cursor.text()
        keys[name] = cursor.value(arrays=arrays)
        spans[name] = (start, cursor.place)
    alignment = keys.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0:
        raise NotGgufError(f"general.alignment is {alignment!r}")
    found: list[Tensor] = []
    for _ in range(n_tensors):
        name, n_dimensions = cursor.text(), cursor.number("I")
        if n_dimensions > MAX_DIMENSIONS:
            raise NotGgufError(f"tensor {name} has {n_dimensions} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(n_dimensions))
        if not all(shape):
            raise NotGgufError(f"tensor {name} is empty")
        found.append(Tensor(name, TensorType(cursor.number("I")), shape, cursor.number("Q")))
    data = _aligned(cursor.place, alignment)
    tensors = tuple(Tensor(each.name, each.type, each.shape, data + each.offset) for each in found)
    for tensor in tensors:
        if tensor.offset + tensor.n_bytes > len(cursor.data):
            raise NotGgufError(f"the file ends within tensor {tensor.name}")
    return Header(keys, spans, tensors, alignment)


def write_header(
    out: BinaryIO,
    keys: Iterable[bytes],
    tensors: Iterable[tuple[str, TensorType, tuple[int, ...]]],
    alignment: int,
) -> None:
    """Everything before the tensors' bytes, which have to follow in this order, each filled up by `pad`.

    `keys` are encoded: spans of another file, or made by `encoded`."""
    keys, tensors = list(keys), list(tensors)
    out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
    out.writelines(keys)
    offset = 0
    for name, kind, shape in tensors:
        out.write(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset = _aligned(offset + tensor_bytes(kind, shape), alignment)
    pad(out, alignment)


def encoded(name: str, value: int | str | Sequence[str]) -> bytes:
    """A key with its value: an unsigned 32-bit number, a text, or a list of texts."""
    if isinstance(value, int):
        return _text(name) + struct.pack("<II", Kind.UINT32, value)
    if isinstance(value, str):
        return _text(name) + struct.pack("<I", Kind.STRING) + _text(value)
    head = struct.pack("<IIQ", Kind.ARRAY, Kind.STRING, len(value))
    return _text(name) + head + b"".join(map(_text, value))


def pad(out: BinaryIO, alignment: int) -> None:
    place = out.tell()
    out.write(bytes(_aligned(place, alignment) - place))


def forget(data: mmap.mmap, tensor: Tensor) -> None:
    """The pages of a tensor that was read count as our memory until they are given back."""
    start = tensor.offset // mmap.PAGESIZE * mmap.PAGESIZE
    data.madvise(mmap.MADV_DONTNEED, start, tensor.offset + tensor.n_bytes - start)


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
