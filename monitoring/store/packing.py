"""Values of a series as few bytes: byte-shuffled and deflated.

Gauges are stored as float32 with KEPT_BITS of mantissa (relative error below 2**-13, 0.013 %): the bits beyond are the noise
that does not compress. Counters stay float64 and exact."""

import zlib

import numpy as np
import numpy.typing as npt

KEPT_BITS = 12
_F32, _F64 = b"g", b"c"
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
    data = bytes(data)
    kind = {_F32: np.float32, _F64: np.float64}.get(data[:1])
    if kind is None:
        raise ValueError("not a packed series")
    try:
        raw = zlib.decompress(data[1:])
    except zlib.error as error:
        raise ValueError(f"a damaged packed series: {error}") from error
    size = np.dtype(kind).itemsize
    if len(raw) % size:
        raise ValueError("a damaged packed series: length")
    columns = np.frombuffer(raw, np.uint8).reshape(size, -1).T
    return np.ascontiguousarray(columns).view(kind).reshape(-1).astype(np.float64)
