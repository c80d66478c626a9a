"""Quantizes a GGUF file with ggml's own kernels, tensor by tensor as Ollama's `create ... quantize` does it.

The kernels come from the xllamacpp wheel (`ggml_quantize_chunk`, undocumented there, hence pinned and tested against
checksums of a real Ollama server). Source types: F32, F16, BF16."""

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from inference.gguf_tools.container import Tensor, encoded, pad, read_header, tensor_bytes, write_header

SOURCES = {Type.F32, Type.F16, Type.BF16}
FILE_TYPES = {
    "F32": (LlamaFileType.ALL_F32, Type.F32),
    "F16": (LlamaFileType.MOSTLY_F16, Type.F16),
    "Q4_K_S": (LlamaFileType.MOSTLY_Q4_K_S, Type.Q4_K),
    "Q4_K_M": (LlamaFileType.MOSTLY_Q4_K_M, Type.Q4_K),
    "Q8_0": (LlamaFileType.MOSTLY_Q8_0, Type.Q8_0),
}
# Where the rows of a tensor do not divide into K-quant blocks of 256.
FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
PART_ELEMENTS = 2**22  # converted at a time
Progress = Callable[[int, int], None]


class QuantizeError(ValueError):
    """The file can't be quantized that way; the text says why."""


def target(name: str) -> tuple[LlamaFileType, Type]:
    """File type and main tensor type of e.g. `q4_K_M`, in any case. Raises QuantizeError."""
    found = FILE_TYPES.get(name.upper())
    if found is None:
        raise QuantizeError(
            f"unsupported quantization type {name.upper()} - supported types are {', '.join(FILE_TYPES)}"
        )
    return found


def use_more_bits(layer: int, n_layers: int) -> bool:
    """First eighth, last eighth, and every third layer between (llama.cpp's rule for the _M types)."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def tensor_type(
    name: str,
    shape: tuple[int, ...],
    file_type: LlamaFileType,
    base: Type,
    n_layers: int,
    *,
    has_output: bool,
) -> Type:
    """Type that tensor `name` gets; norms and vectors are not asked for. `shape`: fastest dimension first."""
    result = base
    layer = int(found[1]) if (found := re.match(r"blk\.(\d+)\.", name)) else 0
    if base == Type.Q4_K:
        if name == "output.weight" or (not has_output and name == "token_embd.weight"):
            result = Type.Q6_K
        elif file_type == LlamaFileType.MOSTLY_Q4_K_M:
            if ("attn_v.weight" in name or "ffn_down" in name) and use_more_bits(layer, n_layers):
                result = Type.Q6_K
            elif "attn_qkv.weight" in name:
                result = Type.Q5_K
        elif ("attn_v.weight" in name and layer < 4) or ("ffn_down" in name and layer < n_layers // 8):
            result = Type.Q5_K
    block = gguf.GGML_QUANT_SIZES[result][0]
    if shape[0] % block:
        result = FALLBACK.get(result, Type.F16)
        if shape[0] % gguf.GGML_QUANT_SIZES[result][0]:
            result = Type.F16
    return result


@cache
def _ggml() -> ctypes.CDLL:
    import xllamacpp.xllamacpp as wheel

    library = ctypes.CDLL(wheel.__file__)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64),
        ctypes.c_void_p,
    ]
    return library


def quantize_rows(
    values: npt.NDArray[np.float32], kind: Type, importance: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.uint8]:
    """(rows, columns) float32 -> (rows, bytes of a row), by ggml's kernel; `importance`: (columns,) or None."""
    rows, columns = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(values, np.float32)
    result = np.zeros((rows, columns // block * size), np.uint8)
    library = _ggml()
    library.ggml_quantize_init(int(kind))
    weights = None if importance is None else importance.ctypes.data
    written = library.ggml_quantize_chunk(
        int(kind), source.ctypes.data, result.ctypes.data, 0, rows, columns, weights
    )
    if written != result.nbytes:
        raise QuantizeError(f"ggml wrote {written} bytes where {result.nbytes} belong ({kind.name})")
    return result


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor takes part: a weight matrix that is neither norm nor expert gate."""
    return name.endswith("weight") and len(shape) >= 2 and "norm" not in name and "ffn_gate_inp" not in name


def quantize_file(source: Path, destination: Path, to: str, progress: Progress | None = None) -> None:
    """Write `source` as type `to` (`q8_0`, `q4_K_M`, `q4_K_S`, `f16`, `f32`); appears whole or not at all.

    Needs the memory of a part of one tensor, whatever the size of the file. Raises QuantizeError for an unknown type or a
    source that is quantized already, NotGgufError for what is no model."""
    file_type, base = target(to)
    header = read_header(source)
    if any(is_quantized(each.name, each.shape) and each.type not in SOURCES for each in header.tensors):
        raise QuantizeError("quantization is only supported for F16, BF16 and F32 models")
    n_layers = header.keys.get(f"{header.keys.get('general.architecture')}.block_count")
    if not isinstance(n_layers, int):
        raise QuantizeError("the file does not say how many layers it has")
    has_output = any(each.name == "output.weight" for each in header.tensors)
    wanted = [
        (each, tensor_type(each.name, each.shape, file_type, base, n_layers, has_output=has_output))
        if is_quantized(each.name, each.shape)
        else (each, each.type)
        for each in header.tensors
    ]
    partial = destination.with_name(destination.name + f".{os.getpid()}.part")
    bytes_ = np.memmap(source, np.uint8, "r")
    keys = [bytes(bytes_[slice(*span)]) for name, span in header.spans.items() if name != "general.file_type"]
    keys.append(encoded("general.file_type", file_type))
    if "general.quantization_version" not in header.keys:
        keys.append(encoded("general.quantization_version", gguf.GGML_QUANT_VERSION))
    try:
        with partial.open("wb") as out:
            write_header(
                out, keys, ((each.name, kind, each.shape) for each, kind in wanted), header.alignment
            )
            for number, (tensor, kind) in enumerate(wanted, 1):
                for part in converted(bytes_, tensor, kind):
                    out.write(part.data)
                pad(out, header.alignment)
                if progress:
                    progress(number, len(wanted))
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def converted(bytes_: npt.NDArray[np.uint8], tensor: Tensor, kind: Type) -> Iterator[npt.NDArray[Any]]:
    """The tensor's rows as type `kind`, some at a time. `bytes_`: the whole source file."""
    raw = bytes_[tensor.offset : tensor.offset + tensor.n_bytes]
    if kind == tensor.type:
        yield raw
        return
    rows = raw.reshape(-1, tensor_bytes(tensor.type, tensor.shape[:1]))
    step = max(PART_ELEMENTS // tensor.shape[0], 1)
    for start in range(0, len(rows), step):
        values = floats(rows[start : start + step], tensor.type)
        yield (
            values
            if kind == Type.F32
            else (values.astype(np.float16) if kind == Type.F16 else quantize_rows(values, kind))
        )


def floats(rows: npt.NDArray[np.uint8], kind: Type) -> npt.NDArray[np.float32]:
    """(rows, bytes) of an F32, F16 or BF16 tensor -> (rows, columns)."""
    if kind == Type.BF16:  # the upper half of a float32
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows.view(np.float16 if kind == Type.F16 else np.float32).astype(np.float32)
