"""A Llama computed with NumPy alone, to compare llama.cpp with: what comes into each weight matrix of the layers."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from inference.gguf_tools.container import read_header

Floats = npt.NDArray[np.float64]


class LlamaForward:
    """`squares`: by tensor (matrices, columns), `counts`: (matrices,), summed over all texts that were read."""

    def __init__(self, file: Path, *, n_used: int = 2) -> None:
        keys = read_header(file).keys
        self.n_layers, self.n_heads = int(keys["llama.block_count"]), int(keys["llama.attention.head_count"])
        self.n_kv = int(keys["llama.attention.head_count_kv"])
        self.eps = float(keys["llama.attention.layer_norm_rms_epsilon"])
        self.base, self.n_used = float(keys.get("llama.rope.freq_base", 10_000.0)), n_used
        self.weights = {
            each.name: each.data.reshape(tuple(each.shape)[::-1]).astype(np.float64)
            for each in gguf.GGUFReader(file).tensors
        }
        self.squares: dict[str, Floats] = {}
        self.counts: dict[str, Floats] = defaultdict(lambda: np.zeros(1))

    def read(self, tokens: Iterable[int]) -> None:
        x = self.weights["token_embd.weight"][list(tokens)]
        for layer in range(self.n_layers):
            x = x + self._attention(layer, self._normed(x, f"blk.{layer}.attn_norm.weight"))
            x = x + self._network(layer, self._normed(x, f"blk.{layer}.ffn_norm.weight"))

    def _times(self, values: Floats, name: str) -> Floats:
        self._note(name, values, 0, 1)
        return np.asarray(values @ self.weights[name].T)

    def _note(self, name: str, values: Floats, matrix: int, n_matrices: int) -> None:
        if name not in self.squares:
            self.squares[name] = np.zeros((n_matrices, values.shape[1]))
            self.counts[name] = np.zeros(n_matrices)
        self.squares[name][matrix] += np.square(values).sum(0)
        self.counts[name][matrix] += len(values)

    def _normed(self, x: Floats, name: str) -> Floats:
        scale = np.sqrt(np.square(x).mean(-1, keepdims=True) + self.eps)
        return np.asarray(x / scale * self.weights[name])

    def _attention(self, layer: int, x: Floats) -> Floats:
        n = len(x)
        q, k, v = (
            self._times(x, f"blk.{layer}.attn_{which}.weight").reshape(n, heads, -1).transpose(1, 0, 2)
            for which, heads in (("q", self.n_heads), ("k", self.n_kv), ("v", self.n_kv))
        )
        q, k = self._turned(q), self._turned(k)
        k, v = (np.repeat(each, self.n_heads // self.n_kv, 0) for each in (k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        scores[:, np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] = -np.inf
        mixed = (_softmax(scores) @ v).transpose(1, 0, 2).reshape(n, -1)
        return self._times(mixed, f"blk.{layer}.attn_output.weight")

    def _turned(self, x: Floats) -> Floats:
        """Rotary positions, of neighbouring pairs."""
        n, half = x.shape[1], x.shape[2] // 2
        angles = np.arange(n)[:, None] * self.base ** (-np.arange(half) / half)
        pairs = x[..., 0::2] + 1j * x[..., 1::2]
        turned = pairs * np.exp(1j * angles)
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    def _network(self, layer: int, x: Floats) -> Floats:
        names = [f"blk.{layer}.ffn_{which}.weight" for which in ("gate", "up", "down")]
        if names[0] in self.weights:
            return self._times(_silu(self._times(x, names[0])) * self._times(x, names[1]), names[2])
        return self._experts(layer, x)

    def _experts(self, layer: int, x: Floats) -> Floats:
        chances = _softmax(self._times(x, f"blk.{layer}.ffn_gate_inp.weight"))
        chosen = np.argsort(-chances, -1)[:, : self.n_used]
        result = np.zeros_like(x)
        names: Any = [f"blk.{layer}.ffn_{which}_exps.weight" for which in ("gate", "up", "down")]
        n_experts = chances.shape[1]
        for expert in range(n_experts):
            rows = (chosen == expert).any(-1)
            share = (chances[rows, expert] / np.take_along_axis(chances, chosen, -1)[rows].sum(-1))[:, None]
            gate, up, down = (self.weights[name][expert] for name in names)
            inner = _silu(x[rows] @ gate.T) * (x[rows] @ up.T)
            for name, values in zip(names, (x[rows], x[rows], inner), strict=True):
                self._note(name, values, expert, n_experts)
            result[rows] += inner @ down.T * share
        return result


def _softmax(x: Floats) -> Floats:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def _silu(x: Floats) -> Floats:
    return np.asarray(x / (1 + np.exp(-np.clip(x, -700, 700))))
