"""Values of a series as few bytes: byte-shuffled and deflated.

Gauges are stored as float32 with KEPT_BITS of mantissa (relative error below 2**-13, 0.013 %): the bits beyond are the noise
that does not compress. Counters stay float64 and exact."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT_BITS = 12
_F32, _F64 = b"g", b"c"
_TYPES: dict[bytes, type[np.floating[Any]]] = {_F32: np.float32, _F64: np.float64}
Floats = npt.NDArray[np.float64]


def is_counter(series: str) -> bool:
    """Whether every unit of it matters: counters only ever grow."""
    metric = series.partition("{")[0]
    return metric.endswith(("_total", "_energy_j"))


def round_mantissa(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """To nearest with KEPT_BITS after the leading one; NaN and infinities stay."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    drop = 23 - KEPT_BITS
    rounded = ((bits + (1 << (drop - 1))) >> drop) << drop
    result = rounded.astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(values) & np.isfinite(result), result, values).astype(np.float32)


def pack(values: Floats, *, exact: bool) -> bytes:
    """(n,) floats, NaN for unknown -> bytes."""
    if exact:
        kind, raw = _F64, np.ascontiguousarray(values, np.float64)
    else:
        kind, raw = _F32, round_mantissa(np.ascontiguousarray(values, np.float32))  # type: ignore[assignment]
    shuffled = raw.view(np.uint8).reshape(len(raw), raw.itemsize).T.tobytes()
    return kind + zlib.compress(shuffled, 6)


def unpack(data: bytes | memoryview) -> Floats:
    """What `pack` made; raises ValueError for anything else."""
    return unpack_many([data])[0]


def unpack_many(packed: Sequence[bytes | memoryview]) -> list[Floats]:
    """What `pack` made of each, in one go: a day of ten series is thousands of small ones, and numpy costs per call."""
    groups: dict[tuple[bytes, int], tuple[list[int], list[bytes]]] = {}
    for position, data in enumerate(packed):
        try:
            raw = zlib.decompress(memoryview(data)[1:])
        except zlib.error as error:
            raise ValueError(f"a damaged packed series: {error}") from error
        positions, raws = groups.setdefault((bytes(data[:1]), len(raw)), ([], []))
        positions.append(position)
        raws.append(raw)
    found: list[Floats] = [np.empty(0)] * len(packed)
    for (kind, length), (positions, raws) in groups.items():
        if kind not in _TYPES:
            raise ValueError("not a packed series")
        size = np.dtype(_TYPES[kind]).itemsize
        if length % size:
            raise ValueError("a damaged packed series: length")
        planes = np.frombuffer(b"".join(raws), np.uint8).reshape(len(raws), size, length // size)
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(_TYPES[kind])
        rows = values.reshape(len(raws), length // size).astype(np.float64)
        for position, row in zip(positions, rows, strict=True):
            found[position] = row
    return found
