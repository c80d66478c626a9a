"""Quantizes a GGUF file with ggml's own kernels, tensor by tensor from a memory map.

The kernels come from the xllamacpp wheel (`ggml_quantize_chunk`, undocumented there, hence pinned and tested against
checksums of a real Ollama server and of llama.cpp's own tool). Source types: F32, F16, BF16."""

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from inference.gguf_tools.container import (
    Header,
    Tensor,
    encoded,
    forget,
    pad,
    read_header,
    tensor_bytes,
    write_header,
)
from inference.gguf_tools.importance import Importance
from inference.gguf_tools.llama_api import library
from inference.gguf_tools.mixes import (
    BLIND,
    NEED_IMPORTANCE,
    SOURCES,
    Mix,
    QuantizeError,
    fitting,
    is_quantized,
    target,
)

PART_ELEMENTS = 2**22  # converted at a time, by one thread
Progress = Callable[[int, int], None]  # bytes of the source that are done, of all


def quantize_rows(
    values: npt.NDArray[np.float32], kind: Type, importance: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.uint8]:
    """(rows, columns) float32 -> (rows, bytes of a row), by ggml's kernel; `importance`: (columns,) or None."""
    rows, columns = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(values, np.float32)
    result = np.zeros((rows, columns // block * size), np.uint8)
    kernels = library()
    kernels.ggml_quantize_init(int(kind))
    weights = None if importance is None else importance.ctypes.data
    written = kernels.ggml_quantize_chunk(
        int(kind), source.ctypes.data, result.ctypes.data, 0, rows, columns, weights
    )
    if written != result.nbytes:
        raise QuantizeError(f"ggml wrote {written} bytes where {result.nbytes} belong ({kind.name})")
    return result


def planned_types(
    header: Header, to: str, types: Mapping[str, Type] | None = None, importance: Importance | None = None
) -> dict[str, Type]:
    """The type that each tensor of the file gets; `types` overrides the mix of file type `to` for tensors by name.

    Raises QuantizeError for an unknown type, a source that is quantized already, a name that it does not have, or a type
    that needs more importance than there is; ImportanceError for that of another model."""
    mix = Mix(header, *target(to), has_importance=importance is not None)
    if any(is_quantized(each.name, each.shape) and each.type not in SOURCES for each in header.tensors):
        raise QuantizeError("quantization is only supported for F16, BF16 and F32 models")
    if importance is not None:
        importance.check(header)
    elif to.upper() in NEED_IMPORTANCE:
        raise QuantizeError(f"{to.upper()} needs an importance matrix: without one its files are garbage")
    _ = mix.n_layers  # says so when the file does not
    planned = {each.name: mix.type_of(each) for each in header.tensors}
    for name, kind in (types or {}).items():
        tensor = next((each for each in header.tensors if each.name == name), None)
        if tensor is None or not is_quantized(name, tensor.shape):
            raise QuantizeError(f"the file has no tensor {name} that can be quantized")
        planned[name] = fitting(kind, tensor.shape)
    for tensor in header.tensors:
        if _is_blind(tensor, planned[tensor.name], to) and not (importance and importance.knows(tensor)):
            raise QuantizeError(
                f"the importance matrix says nothing of {tensor.name}, which can't be {planned[tensor.name].name} without"
            )
    return planned


def _is_blind(tensor: Tensor, kind: Type, to: str) -> bool:
    """Whether it would be garbage without importance. What lies outside the layers gets enough bits."""
    few = kind in BLIND or (kind == Type.Q2_K and to.upper() == "Q2_K_S")
    return few and kind != tensor.type and tensor.name not in ("token_embd.weight", "output.weight")


def planned_bytes(header: Header, types: Mapping[str, Type]) -> int:
    """Size that the file will have, but for its padding: keys and names stay as long as they are."""
    head = min((each.offset for each in header.tensors), default=0)
    return head + sum(tensor_bytes(types[each.name], each.shape) for each in header.tensors)


def quantize_file(
    source: Path,
    destination: Path,
    to: str,
    progress: Progress | None = None,
    *,
    types: Mapping[str, Type] | None = None,
    importance: Importance | None = None,
    n_threads: int | None = None,
) -> None:
    """Write `source` as file type `to` (`q8_0`, `q4_K_M` and so on, see mixes.py); appears whole or not at all.

    Needs the memory of some parts of a tensor, whatever the size of the file. Raises QuantizeError and ImportanceError (see
    planned_types), NotGgufError for what is no model, OSError for what the disk refuses."""
    header = read_header(source)
    planned = planned_types(header, to, types, importance)
    n_threads = n_threads or len(os.sched_getaffinity(0))
    partial = destination.with_name(f"{destination.name}.{os.getpid()}.part")
    try:
        with (
            source.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            partial.open("wb") as out,
            ThreadPoolExecutor(n_threads) as pool,
        ):
            keys = [*_keys(data, header, target(to)[0]), *(importance.keys() if importance else ())]
            shapes = ((each.name, planned[each.name], each.shape) for each in header.tensors)
            write_header(out, keys, shapes, header.alignment)
            done, total = 0, sum(each.n_bytes for each in header.tensors)
            for tensor in header.tensors:
                kind = planned[tensor.name]
                weights = importance.of(tensor) if importance and kind != tensor.type else None
                for part in _in_order(pool, n_threads, _parts(data, tensor, kind, weights)):
                    out.write(part.data)
                pad(out, header.alignment)
                forget(data, tensor)
                done += tensor.n_bytes
                if progress:
                    progress(done, total)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def _keys(data: mmap.mmap, header: Header, file_type: LlamaFileType) -> list[bytes]:
    keys = [
        data[slice(*span)]
        for name, span in header.spans.items()
        if name != "general.file_type" and not name.startswith("quantize.imatrix.")
    ]
    keys.append(encoded("general.file_type", file_type))
    if "general.quantization_version" not in header.keys:
        keys.append(encoded("general.quantization_version", gguf.GGML_QUANT_VERSION))
    return keys


def _parts(
    data: mmap.mmap, tensor: Tensor, kind: Type, weights: npt.NDArray[np.float32] | None
) -> Iterator[Callable[[], npt.NDArray[Any]]]:
    """Work for one thread each: some rows of the tensor as type `kind`, by the importance of the matrix they belong to."""
    row_bytes = tensor_bytes(tensor.type, tensor.shape[:1])
    n_matrix = tensor.shape[1] if weights is not None else tensor.n_elements // tensor.shape[0]
    step = max(PART_ELEMENTS // tensor.shape[0], 1)
    for matrix in range(tensor.n_elements // tensor.shape[0] // n_matrix):
        ours = None if weights is None else np.ascontiguousarray(weights[matrix])
        for start in range(0, n_matrix, step):
            n = min(step, n_matrix - start)
            place = tensor.offset + (matrix * n_matrix + start) * row_bytes

            def work(place: int = place, n: int = n, ours: Any = ours) -> npt.NDArray[Any]:
                raw = np.frombuffer(data[place : place + n * row_bytes], np.uint8).reshape(n, row_bytes)
                return raw if kind == tensor.type else converted(raw, tensor.type, kind, ours)

            yield work


def converted(
    rows: npt.NDArray[np.uint8], source: Type, kind: Type, importance: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[Any]:
    """(rows, bytes) of an F32, F16 or BF16 tensor -> (rows, ...) as type `kind`; `importance`: (columns,) or None."""
    values = floats(rows, source)
    if kind == Type.F32:
        return values
    return values.astype(np.float16) if kind == Type.F16 else quantize_rows(values, kind, importance)


def floats(rows: npt.NDArray[np.uint8], kind: Type) -> npt.NDArray[np.float32]:
    """(rows, bytes) of an F32, F16 or BF16 tensor -> (rows, columns)."""
    if kind == Type.BF16:  # the upper half of a float32
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows.view(np.float16 if kind == Type.F16 else np.float32).astype(np.float32)


def _in_order(
    pool: ThreadPoolExecutor, n_ahead: int, works: Iterable[Callable[[], npt.NDArray[Any]]]
) -> Iterator[npt.NDArray[Any]]:
    """The results in order, never more than `n_ahead` of them waiting in memory."""
    running: deque[Future[npt.NDArray[Any]]] = deque()
    for work in works:
        running.append(pool.submit(work))
        if len(running) > n_ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
