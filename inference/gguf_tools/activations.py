"""What comes into each column of a model's weights while it reads: sums of squares, by llama.cpp's own computation.

`python -m inference.gguf_tools.activations`: a process of its own, for llama.cpp ends its process when a file displeases
it. It reads one JSON line (see `Order`), prints `{"done": n}` after each sequence and `{"error": ...}` if it fails, and ends
when its standard input does."""

import ctypes
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.gguf_tools.container import NotGgufError, read_header
from inference.gguf_tools.importance import Sums, write_importance
from inference.gguf_tools.llama_api import (
    F32,
    Batch,
    EvalCallback,
    LayoutError,
    Tensor,
    check_layout,
    library,
)

Floats = npt.NDArray[np.float64]


class ActivationsError(RuntimeError):
    """They can't be read; the text says why."""


@dataclass(frozen=True)
class Order:
    """`sequences`: the tokens of each text; `datasets` and `prompts`: what the file is to say of them."""

    model: str
    out: str
    sequences: list[list[int]]
    datasets: list[str]
    prompts: list[str]
    n_threads: int

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Collector:
    """Called by llama.cpp for each operation: before it (`ask`) whether we want to look, and after it."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.sums: dict[str, Sums] = {}
        self.error: Exception | None = None
        self.operations = check_layout()
        self.api = library()

    def __call__(self, address: int, ask: bool, _data: int | None) -> bool:
        """False ends the computation; an exception would be lost in C."""
        tensor = Tensor.from_address(address)
        if ask:
            return tensor.op in self.operations and _name(tensor.src[0]) in self.names
        try:
            self._add(tensor)
        except Exception as error:  # noqa: BLE001 - raised once C is left
            self.error = self.error or error
        return self.error is None

    def _add(self, product: Tensor) -> None:
        weights, values = (Tensor.from_address(product.src[place]) for place in (0, 1))
        if values.type != F32:
            raise ActivationsError(f"the values before {_name(product.src[0])} are no float32")
        squares = np.square(self._values(product.src[1], np.float32), dtype=np.float64)
        n_matrices, columns = weights.ne[2] * weights.ne[3], values.ne[0]
        name = _name(product.src[0])
        if name not in self.sums:
            self.sums[name] = Sums(np.zeros((n_matrices, columns)), np.zeros(n_matrices))
        found = self.sums[name]
        if product.op == self.operations[1]:
            self._add_experts(found, squares[0], self._values(product.src[2], np.int32)[0, 0])
        else:  # matrix by matrix; more values than matrices share them in turns
            for outer, inner in np.ndindex(squares.shape[:2]):
                place = outer % weights.ne[3] * weights.ne[2] + inner % weights.ne[2]
                found.squares[place] += squares[outer, inner].sum(0)
                found.counts[place] += values.ne[1]
        if not np.isfinite(found.squares).all():
            raise ActivationsError(f"the values before {name} are not finite")

    def _add_experts(self, found: Sums, squares: Floats, ids: npt.NDArray[np.int32]) -> None:
        """`squares`: (tokens, experts used or 1, columns); `ids`: (tokens, experts used)."""
        for place in range(ids.shape[1]):
            rows = squares[:, place % squares.shape[1]]
            for expert in np.unique(ids[:, place]):
                chosen = ids[:, place] == expert
                found.squares[expert] += rows[chosen].sum(0)
                found.counts[expert] += chosen.sum()

    def _values(self, address: int, kind: Any) -> npt.NDArray[Any]:
        """Of four dimensions, the fastest last; copied, wherever they are."""
        tensor, n_bytes = Tensor.from_address(address), self.api.ggml_nbytes(address)
        raw = np.empty(n_bytes, np.uint8)
        self.api.ggml_backend_tensor_get(address, raw.ctypes.data, 0, n_bytes)
        shape, steps = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
        return np.ndarray(shape, kind, raw.data, 0, steps)


def _name(address: int) -> str:
    """Of a tensor, without the backend that a copy of it lies on: `CUDA0#blk.0.attn_k.weight#0`."""
    name = str(Tensor.from_address(address).name, "utf-8", "replace")
    return name.split("#")[1] if "#" in name else name


def collect(
    model: Path,
    sequences: Sequence[Sequence[int]],
    n_threads: int,
    done: Callable[[int], None] = lambda n_sequences: None,
) -> dict[str, Sums]:
    """By tensor; `sequences`: the tokens of each text, none empty. Raises ActivationsError, LayoutError, NotGgufError."""
    header = read_header(model)
    # As llama-imatrix: what lies outside the layers (the vocabulary) is quantized without.
    collector = Collector(each.name for each in header.tensors if each.name.startswith("blk."))
    api, n_most = library(), max(map(len, sequences))
    api.llama_backend_init()
    loaded = api.llama_model_load_from_file(os.fsencode(model), api.llama_model_default_params())
    if not loaded:
        raise ActivationsError(f"llama.cpp can't load {model.name}")
    if api.llama_model_has_encoder(loaded):
        raise ActivationsError("the model has an encoder, and only texts that are continued are read")
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = n_most
    params.n_threads = params.n_threads_batch = n_threads
    params.cb_eval = EvalCallback(collector)
    context = api.llama_init_from_model(loaded, params)
    if not context:
        raise ActivationsError(f"llama.cpp can't compute {model.name} with a context of {n_most} tokens")
    if api.llama_n_ctx(context) < n_most or api.llama_n_ubatch(context) < n_most:
        raise LayoutError("llama.cpp took other parameters than it was given")
    for number, tokens in enumerate(sequences, 1):
        api.llama_memory_clear(api.llama_get_memory(context), True)
        n = len(tokens)
        batch = Batch(n, (ctypes.c_int32 * n)(*tokens), logits=(ctypes.c_int8 * n)(*[1] * n))
        status = api.llama_decode(context, batch)
        if collector.error is not None:
            raise collector.error
        if status:
            raise ActivationsError(f"llama.cpp could not read a text of {n} tokens (status {status})")
        if not collector.sums:
            raise ActivationsError("llama.cpp multiplied no weights of its layers, as far as it told")
        done(number)
    return collector.sums


def main() -> None:
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        sums = collect(Path(order.model), order.sequences, order.n_threads, lambda n: _say(done=n))
        n, n_most = len(order.sequences), max(map(len, order.sequences))
        write_importance(Path(order.out), sums, order.datasets, n, n_most, order.prompts)
    except LayoutError as error:
        _say(error=str(error))
    except (ActivationsError, NotGgufError) as error:
        _say(error=f"The activations of {Path(order.model).name} can't be read: {error}.")
    except OSError as error:
        _say(error=f"The importance matrix can't be written: {error.strerror or error}.")
    sys.stdout.flush()
    os._exit(0)  # the kernel frees the model at once


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
