"""Quantizes a GGUF file with ggml's own kernels, tensor by tensor as Ollama's `create ... quantize` does it.

The kernels come from the xllamacpp wheel (`ggml_quantize_chunk`, undocumented there, hence pinned and tested against
checksums of a real Ollama server). Source types: F32, F16, BF16."""

import ctypes
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

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

    Raises QuantizeError for an unknown type or a source that is quantized already."""
    file_type, base = target(to)
    reader = gguf.GGUFReader(source)
    if any(is_quantized(t.name, tuple(t.shape)) and t.tensor_type not in SOURCES for t in reader.tensors):
        raise QuantizeError("quantization is only supported for F16, BF16 and F32 models")
    architecture = reader.fields["general.architecture"].contents()
    n_layers = int(reader.fields[f"{architecture}.block_count"].contents())
    has_output = any(each.name == "output.weight" for each in reader.tensors)
    partial = destination.with_name(destination.name + f".{os.getpid()}.part")
    writer = gguf.GGUFWriter(partial, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in {"general.architecture", "general.file_type"}:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
    writer.add_file_type(file_type)
    if "general.quantization_version" not in reader.fields:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    try:
        for number, tensor in enumerate(reader.tensors, 1):
            _add(writer, tensor, file_type, base, n_layers, has_output=has_output)
            if progress:
                progress(number, len(reader.tensors))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def _add(
    writer: gguf.GGUFWriter,
    tensor: gguf.ReaderTensor,
    file_type: LlamaFileType,
    base: Type,
    n_layers: int,
    *,
    has_output: bool,
) -> None:
    shape = tuple(int(n) for n in tensor.shape)
    if not is_quantized(tensor.name, shape):
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        return
    kind = tensor_type(tensor.name, shape, file_type, base, n_layers, has_output=has_output)
    if kind == tensor.tensor_type:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=kind)
        return
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if kind in {Type.F16, Type.F32}:
        writer.add_tensor(tensor.name, values.astype(np.float16 if kind == Type.F16 else np.float32))
        return
    matrix = values.reshape(-1, values.shape[-1])
    packed = quantize_rows(matrix, kind)
    writer.add_tensor(tensor.name, packed.reshape(*values.shape[:-1], -1), raw_dtype=kind)
