"""Importance matrices: how much each column of a weight matters, so that a quantizer errs where it costs least.

Read and written in llama.cpp's format, a GGUF file with two tensors for each weight: `X.in_sum2`, the sum of the squares of
what came into each column, and `X.counts`, of how many tokens. Of the older format (.dat) only reading."""

import math
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from inference.gguf_tools.container import (
    Header,
    NotGgufError,
    Tensor,
    encoded,
    pad,
    read_header,
    write_header,
)

SUMS, COUNTS = ".in_sum2", ".counts"
# Our own key: digests of the prompts that were read, for they must not judge what was made with them.
PROMPTS = "imatrix.aicleaner.prompts"


class ImportanceError(ValueError):
    """The file is no importance matrix, or not one of this model; the text says why."""


class Sums(NamedTuple):
    """Of one tensor: (matrices, columns) and (matrices,); there is a matrix for each expert."""

    squares: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """`means`: by tensor the mean square of each column, matrix after matrix; `prompts`: digests, where the file has them."""

    file: str
    means: Mapping[str, npt.NDArray[np.float32]]
    datasets: tuple[str, ...]
    n_chunks: int
    prompts: tuple[str, ...] = ()

    def of(self, tensor: Tensor) -> npt.NDArray[np.float32] | None:
        """(matrices, columns) of a tensor that `check` has let pass; None where the file has nothing of it."""
        found = self.means.get(tensor.name)
        return None if found is None else found.reshape(-1, tensor.shape[0])

    def knows(self, tensor: Tensor) -> bool:
        return tensor.name in self.means

    def check(self, header: Header) -> None:
        """Raises ImportanceError unless it was made with a model of these tensors."""
        tensors = {each.name: each for each in header.tensors}
        for name, values in self.means.items():
            tensor = tensors.get(name)
            if tensor is None:
                raise ImportanceError(
                    f"{self.file} is the importance matrix of another model: it has {name}, and this model does not."
                )
            expected = tensor.shape[0] * math.prod(tensor.shape[2:])
            if len(values) != expected:
                raise ImportanceError(
                    f"{self.file} is the importance matrix of another model: {name} has {len(values):,} columns there, and "
                    f"{expected:,} in this model."
                )

    def keys(self) -> list[bytes]:
        """What a file made with it says of it, as llama-quantize does, and which prompts may not judge it."""
        found = [
            encoded("quantize.imatrix.file", self.file),
            encoded("quantize.imatrix.entries_count", len(self.means)),
        ]
        if self.datasets:
            found.append(encoded("quantize.imatrix.dataset", self.datasets[0]))
        if self.n_chunks:
            found.append(encoded("quantize.imatrix.chunks_count", self.n_chunks))
        if self.prompts:
            found.append(encoded(f"quantize.{PROMPTS}", self.prompts))
        return found


def read_importance(path: Path) -> Importance:
    """Raises ImportanceError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _read_gguf(path, data) if data[:4] == b"GGUF" else _read_old(path, data)
    except OSError as error:
        raise ImportanceError(f"{path.name} can't be read: {error.strerror}.") from error
    except (ValueError, struct.error) as error:
        if isinstance(error, ImportanceError):
            raise
        raise ImportanceError(f"{path.name} is no importance matrix, or damaged: {error}.") from error
    for name, values in found.means.items():
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ImportanceError(f"{path.name} is damaged: {name} has values that no mean of squares has.")
    return found


def _read_gguf(path: Path, data: mmap.mmap) -> Importance:
    header = read_header(path)
    if (kind := header.keys.get("general.type")) != "imatrix":
        raise ImportanceError(
            f"{path.name} is a GGUF file, but no importance matrix (its type is {kind or 'not told'})."
        )
    keys = read_header(path, arrays=True).keys
    tensors = {each.name: each for each in header.tensors}
    names = {each.removesuffix(end) for each in tensors for end in (SUMS, COUNTS) if each.endswith(end)}
    means: dict[str, npt.NDArray[np.float32]] = {}
    for name in sorted(names):
        pair = tensors.get(name + SUMS), tensors.get(name + COUNTS)
        if None in pair or any(each and each.type != Type.F32 for each in pair):
            raise NotGgufError(f"{name} lacks its sums or its counts")
        squares, counts = (
            np.frombuffer(data[each.offset : each.offset + each.n_bytes], "<f4") for each in pair if each
        )
        if len(squares) % len(counts):
            raise NotGgufError(f"{name} has {len(squares)} sums for {len(counts)} counts")
        rows, n = squares.reshape(len(counts), -1), counts[:, None]
        # An expert that nothing reached: all its columns alike.
        means[name] = np.where(n > 0, rows / np.maximum(n, 1), 1).astype(np.float32).ravel()
    if not means:
        raise NotGgufError("it has no tensor")
    return Importance(
        path.name,
        means,
        _texts(keys.get("imatrix.datasets")),
        int(keys.get("imatrix.chunk_count") or 0),
        _texts(keys.get(PROMPTS)),
    )


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _read_old(path: Path, data: mmap.mmap) -> Importance:
    """Entries of name, calls, values; then the number of chunks and the data set, which the oldest files lack."""
    place = 0

    def number() -> int:
        nonlocal place
        (value,) = struct.unpack_from("<i", data, place)
        place += 4
        if value < 0:
            raise ValueError("a length below zero")
        return int(value)

    def take(n_bytes: int) -> bytes:
        nonlocal place
        if n_bytes > len(data) - place:
            raise ValueError("it ends within an entry")
        place += n_bytes
        return data[place - n_bytes : place]

    means: dict[str, npt.NDArray[np.float32]] = {}
    n_entries = number()
    if not 0 < n_entries < 2**20:
        raise ValueError("it does not begin as one")
    for _ in range(n_entries):
        name, calls, n_values = take(number()).decode(), number(), number()
        means[name] = np.frombuffer(take(4 * n_values), "<f4").astype(np.float32) / np.float32(calls or 1)
    rest = len(data) - place
    n_chunks = number() if rest >= 4 else 0
    dataset = take(number()).decode("utf-8", "replace") if rest >= 8 else ""
    return Importance(path.name, means, (dataset,) if dataset else (), n_chunks)


def write_importance(
    path: Path,
    sums: Mapping[str, Sums],
    datasets: Sequence[str],
    n_chunks: int,
    chunk_size: int,
    prompts: Sequence[str] = (),
) -> None:
    """Appears whole or not at all; raises OSError."""
    keys = [
        encoded("general.type", "imatrix"),
        encoded("imatrix.datasets", datasets),
        encoded("imatrix.chunk_count", n_chunks),
        encoded("imatrix.chunk_size", chunk_size),
        *([encoded(PROMPTS, prompts)] if prompts else []),
    ]
    tensors = [
        (name + end, values.reshape(len(entry.counts), -1).astype("<f4"))
        for name, entry in sorted(sums.items())
        for end, values in ((SUMS, entry.squares), (COUNTS, entry.counts))
    ]
    alignment = gguf.GGUF_DEFAULT_ALIGNMENT
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as out:
            shapes = ((name, Type.F32, values.shape[::-1]) for name, values in tensors)
            write_header(out, keys, shapes, alignment)
            for _, values in tensors:
                out.write(values.tobytes())
                pad(out, alignment)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
