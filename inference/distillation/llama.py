"""A Llama in PyTorch, of any size, over weights by their names in a GGUF file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from inference.distillation.files import Array
from inference.distillation.shape import NOT_TRAINED, Shape, renumbered

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Llama:
    """`weights` in F32, by name without gaps between the layers; those of a teacher ask for no gradients."""

    shape: Shape
    weights: Weights
    n_layers: int

    @property
    def trained(self) -> list[Tensor]:
        """In the order of their names, so that an optimizer's state fits after a restart."""
        return [self.weights[name] for name in sorted(self.weights) if name != NOT_TRAINED]

    def logits(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """(n, vocab), what follows the positions where `wanted` (batch, tokens) is true; `ids` (batch, tokens) may be filled
        up at the end: no position looks at a later one."""
        rotation = self._rotation(ids.shape[1])
        x = F.embedding(ids, self.weights["token_embd.weight"])
        for number in range(self.n_layers):
            x = self._layer(x, f"blk.{number}.", rotation)
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        return F.linear(self._norm(x[wanted], "output_norm.weight"), head)

    def _layer(self, x: Tensor, name: str, rotation: Tensor) -> Tensor:
        shape, w = self.shape, self.weights
        n, t, _ = x.shape
        h = self._norm(x, f"{name}attn_norm.weight")
        q = F.linear(h, w[f"{name}attn_q.weight"]).view(n, t, shape.n_heads, shape.head)
        k = F.linear(h, w[f"{name}attn_k.weight"]).view(n, t, shape.n_kv_heads, shape.head)
        v = F.linear(h, w[f"{name}attn_v.weight"]).view(n, t, shape.n_kv_heads, -1)
        repeat = shape.n_heads // shape.n_kv_heads
        k = self._rotated(k, rotation).repeat_interleave(repeat, 2)
        v = v.repeat_interleave(repeat, 2)
        mixed = F.scaled_dot_product_attention(
            self._rotated(q, rotation).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        x = x + F.linear(mixed.transpose(1, 2).reshape(n, t, -1), w[f"{name}attn_output.weight"])
        h = self._norm(x, f"{name}ffn_norm.weight")
        gate = F.silu(F.linear(h, w[f"{name}ffn_gate.weight"]))
        return x + F.linear(gate * F.linear(h, w[f"{name}ffn_up.weight"]), w[f"{name}ffn_down.weight"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, (self.shape.dim,), self.weights[name], self.shape.epsilon)

    def _rotation(self, n_tokens: int) -> Tensor:
        """(tokens, 1, rotated / 2), complex. Llama 3 divides the frequencies by `rope_freqs`."""
        half = torch.arange(0, self.shape.rotated, 2).float() / self.shape.rotated
        frequencies = self.shape.rope_base**-half
        if (factors := self.weights.get(NOT_TRAINED)) is not None:
            frequencies = frequencies / factors
        angles = torch.outer(torch.arange(n_tokens).float(), frequencies)
        return torch.polar(torch.ones_like(angles), angles)[:, None]

    def _rotated(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Interleaved pairs (2i, 2i+1), as files of the llama architecture have them."""
        turning, rest = x[..., : self.shape.rotated], x[..., self.shape.rotated :]
        pairs = torch.view_as_complex(turning.reshape(*turning.shape[:-1], -1, 2))
        turned = torch.view_as_real(pairs * rotation).flatten(-2)
        return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


def teacher_of(shape: Shape, weights: Mapping[str, Array]) -> Llama:
    """It shares the arrays' memory."""
    return Llama(shape, {name: torch.from_numpy(each) for name, each in weights.items()}, shape.n_layers)


def student_of(teacher: Llama, kept: Sequence[int]) -> Llama:
    """A copy of the teacher's layers `kept`, to be trained."""
    weights = {}
    for name, each in teacher.weights.items():
        if (new := renumbered(name, tuple(kept))) is not None:
            weights[new] = each.clone().requires_grad_(new != NOT_TRAINED)
    return Llama(teacher.shape, weights, len(kept))
