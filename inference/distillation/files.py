"""Weights out of a GGUF file of any type, and a student's into one of F16."""

import mmap
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from inference.distillation.shape import ShapeError, renumbered
from inference.gguf_tools.container import Header, Tensor, encoded, pad, read_header, whole_file, write_header
from inference.gguf_tools.prune import keys_without, n_layers

FILE_TYPE = "general.file_type"
Array = npt.NDArray[np.float32]


def read_weights(path: Path, header: Header) -> dict[str, Array]:
    """All tensors in F32, slowest dimension first; quantized ones dequantized. Raises ShapeError for a type that the gguf
    package does not know, OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return {each.name: _values(data, each) for each in header.tensors}


def _values(data: mmap.mmap, tensor: Tensor) -> Array:
    raw = np.frombuffer(data[tensor.offset : tensor.offset + tensor.n_bytes], np.uint8)
    shape = tensor.shape[::-1]
    try:
        values = gguf.dequantize(raw.reshape(tensor.n_elements // tensor.shape[0], -1), tensor.type)
    except NotImplementedError as error:
        raise ShapeError(f"the gguf package can't read tensors of type {tensor.type.name}") from error
    return np.array(values, np.float32).reshape(shape)


def student_type(tensor: Tensor) -> Type:
    """Matrices become F16, vectors F32."""
    return Type.F16 if len(tensor.shape) > 1 else Type.F32


def student_bytes(header: Header, kept: tuple[int, ...]) -> int:
    """Size of the student's file, but for its padding."""
    head = min((each.offset for each in header.tensors), default=0)
    stay = [each for each in header.tensors if renumbered(each.name, kept) is not None]
    return head + sum(each.n_elements * (2 if student_type(each) == Type.F16 else 4) for each in stay)


def write_student(
    teacher: Path, destination: Path, kept: tuple[int, ...], weights: Mapping[str, Array]
) -> None:
    """`weights` by the student's names. All keys are the teacher's, tokenizer and template too, but for the number of layers
    and the type; appears whole or not at all. Raises PruneError, OSError."""
    header = read_header(teacher)
    dropped = [layer for layer in range(n_layers(header)) if layer not in kept]
    named = [(new, each) for each in header.tensors if (new := renumbered(each.name, kept)) is not None]
    with (
        teacher.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        whole_file(destination) as out,
    ):
        keys = [raw for name, raw in keys_without(data, header, dropped) if name != FILE_TYPE]
        keys.append(encoded(FILE_TYPE, int(gguf.LlamaFileType.MOSTLY_F16)))
        tensors = ((name, student_type(each), each.shape) for name, each in named)
        write_header(out, keys, tensors, header.alignment)
        for name, each in named:
            values = weights[name]
            out.write(values.astype(np.float16 if student_type(each) == Type.F16 else np.float32).tobytes())
            pad(out, header.alignment)
