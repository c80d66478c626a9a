"""Which type each tensor gets: the mixes that llama.cpp calls file types (Q4_K_M and the like).

The rules are those of llama.cpp's quantizer (src/llama-quant.cpp) for Llama-like models; for what Ollama makes itself
(Q4_K_S, Q4_K_M, Q8_0) they are those of its own, which leaves out the rule for 70B. Tested byte for byte against both."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gguf
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from inference.gguf_tools.container import Header, Tensor
from inference.gguf_tools.least_bits import ABOUT_TWO_AND_A_HALF, LEAST_BITS, type_in_layer

SOURCES = {Type.F32, Type.F16, Type.BF16}
# name -> (file type, type of most tensors)
FILE_TYPES: dict[str, tuple[LlamaFileType, Type]] = {
    "F32": (LlamaFileType.ALL_F32, Type.F32),
    "F16": (LlamaFileType.MOSTLY_F16, Type.F16),
    "BF16": (LlamaFileType.MOSTLY_BF16, Type.BF16),
    "Q8_0": (LlamaFileType.MOSTLY_Q8_0, Type.Q8_0),
    "Q6_K": (LlamaFileType.MOSTLY_Q6_K, Type.Q6_K),
    "Q5_K_M": (LlamaFileType.MOSTLY_Q5_K_M, Type.Q5_K),
    "Q5_K_S": (LlamaFileType.MOSTLY_Q5_K_S, Type.Q5_K),
    "Q5_1": (LlamaFileType.MOSTLY_Q5_1, Type.Q5_1),
    "Q5_0": (LlamaFileType.MOSTLY_Q5_0, Type.Q5_0),
    "Q4_K_M": (LlamaFileType.MOSTLY_Q4_K_M, Type.Q4_K),
    "Q4_K_S": (LlamaFileType.MOSTLY_Q4_K_S, Type.Q4_K),
    "Q4_1": (LlamaFileType.MOSTLY_Q4_1, Type.Q4_1),
    "Q4_0": (LlamaFileType.MOSTLY_Q4_0, Type.Q4_0),
    "IQ4_NL": (LlamaFileType.MOSTLY_IQ4_NL, Type.IQ4_NL),
    "IQ4_XS": (LlamaFileType.MOSTLY_IQ4_XS, Type.IQ4_XS),
    "Q3_K_L": (LlamaFileType.MOSTLY_Q3_K_L, Type.Q3_K),
    "Q3_K_M": (LlamaFileType.MOSTLY_Q3_K_M, Type.Q3_K),
    "Q3_K_S": (LlamaFileType.MOSTLY_Q3_K_S, Type.Q3_K),
    "IQ3_M": (LlamaFileType.MOSTLY_IQ3_M, Type.IQ3_S),
    "IQ3_S": (LlamaFileType.MOSTLY_IQ3_S, Type.IQ3_S),
    "IQ3_XS": (LlamaFileType.MOSTLY_IQ3_XS, Type.IQ3_S),
    "IQ3_XXS": (LlamaFileType.MOSTLY_IQ3_XXS, Type.IQ3_XXS),
    "Q2_K": (LlamaFileType.MOSTLY_Q2_K, Type.Q2_K),
    "Q2_K_S": (LlamaFileType.MOSTLY_Q2_K_S, Type.Q2_K),
    "IQ2_M": (LlamaFileType.MOSTLY_IQ2_M, Type.IQ2_S),
    "IQ2_S": (LlamaFileType.MOSTLY_IQ2_S, Type.IQ2_XS),
    "IQ2_XS": (LlamaFileType.MOSTLY_IQ2_XS, Type.IQ2_XS),
    "IQ2_XXS": (LlamaFileType.MOSTLY_IQ2_XXS, Type.IQ2_XXS),
    "IQ1_M": (LlamaFileType.MOSTLY_IQ1_M, Type.IQ1_M),
    "IQ1_S": (LlamaFileType.MOSTLY_IQ1_S, Type.IQ1_S),
}
# File types that are garbage without an importance matrix, and the tensor types that are.
NEED_IMPORTANCE = (*("IQ3_XS", "IQ3_XXS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"),)
UNWEIGHED = ("F32", "F16", "BF16", "Q8_0")  # made the same with one
BLIND = {Type.IQ3_XXS, Type.IQ2_S, Type.IQ2_XS, Type.IQ2_XXS, Type.IQ1_M, Type.IQ1_S}
# What `create ... quantize` of Ollama and of the embedded engine makes, in the order of their error text.
ENGINE_TYPES = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
N_LAYERS_70B = 80
# Where the rows of a tensor do not divide into blocks of 256.
FALLBACK = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    **dict.fromkeys((Type.IQ4_XS, Type.IQ3_S, *BLIND), Type.IQ4_NL),
}
# Of the tensors between words and numbers, in files that hold the output apart.
EMBEDDINGS = {
    **dict.fromkeys(LEAST_BITS, Type.Q2_K),
    **dict.fromkeys((*ABOUT_TWO_AND_A_HALF, LlamaFileType.MOSTLY_IQ3_XXS), Type.IQ3_S),
}
Q4_IF_SHARED = (
    *(LlamaFileType.MOSTLY_IQ3_S, LlamaFileType.MOSTLY_IQ3_XS, LlamaFileType.MOSTLY_IQ3_XXS),
    LlamaFileType.MOSTLY_Q2_K_S,
)
# Never quantized though a matrix: small, or an index into the rest.
KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp|altup|laurel|per_layer_model_proj|position_embd|token_types|ssm_conv1d|"
    r"shortconv\.conv|time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)|attn_rel_b|\.rel_pos|\.patch_"
)


class QuantizeError(ValueError):
    """The file can't be quantized that way; the text says why."""


def target(name: str, among: Iterable[str] = FILE_TYPES) -> tuple[LlamaFileType, Type]:
    """File type and main tensor type of e.g. `q4_K_M`, in any case. Raises QuantizeError."""
    if name.upper() not in among:
        raise QuantizeError(
            f"unsupported quantization type {name.upper()} - supported types are {', '.join(among)}"
        )
    return FILE_TYPES[name.upper()]


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor takes part: a weight matrix that is neither norm nor expert gate."""
    return name.endswith("weight") and len(shape) >= 2 and KEPT.search(name) is None


def use_more_bits(layer: int, n_layers: int) -> bool:
    """First eighth, last eighth, and every third layer between (llama.cpp's rule for the _M types)."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


@dataclass(frozen=True)
class Mix:
    """Types for the tensors of one model. Raises QuantizeError for a file that does not say how many layers it has."""

    header: Header
    file_type: LlamaFileType
    base: Type
    has_importance: bool = False

    @cached_property
    def n_layers(self) -> int:
        found = self._of_architecture("block_count")
        if not isinstance(found, int):
            raise QuantizeError("the file does not say how many layers it has")
        return found

    @cached_property
    def has_output(self) -> bool:
        return any(each.name == "output.weight" for each in self.header.tensors)

    @cached_property
    def n_gqa(self) -> int:
        """Query heads per key/value head."""
        heads, kv = (
            self._of_architecture("attention.head_count"),
            self._of_architecture("attention.head_count_kv"),
        )
        return heads // kv if isinstance(heads, int) and isinstance(kv, int) and kv else 1

    @cached_property
    def n_experts(self) -> int:
        found = self._of_architecture("expert_count")
        return found if isinstance(found, int) else 0

    @property
    def has_8_experts(self) -> bool:
        return self.n_experts == 8

    def _of_architecture(self, key: str) -> Any:
        return self.header.keys.get(f"{self.header.keys.get('general.architecture')}.{key}")

    def type_of(self, tensor: Tensor) -> Type:
        """Its own type for what is not quantized."""
        if not is_quantized(tensor.name, tensor.shape):
            return tensor.type
        return fitting(self._wanted(tensor.name, tensor.shape), tensor.shape)

    def _wanted(self, name: str, shape: tuple[int, ...]) -> Type:
        kind, of, n = LlamaFileType, self.file_type, self.n_layers
        if self.base in SOURCES:
            return self.base
        if name == "output.weight" or (not self.has_output and name == "token_embd.weight"):
            return self._output(shape)
        if name == "token_embd.weight":
            return EMBEDDINGS.get(of, self.base)
        layer = int(found[1]) if (found := re.match(r"blk\.(\d+)\.", name)) else 0
        if of in LEAST_BITS:
            heads, experts = self.n_gqa, self.n_experts
            return type_in_layer(
                of, self.base, name, first_eighth=layer < n // 8, n_gqa=heads, n_experts=experts
            )
        if "attn_v.weight" in name or "attn_qkv.weight" in name:
            return self._attention_v(layer, joined="attn_qkv" in name)
        if self.has_8_experts and "attn_k.weight" in name:
            return Type.Q8_0
        if "attn_k.weight" in name or "attn_q.weight" in name:
            return {kind.MOSTLY_IQ3_XS: Type.IQ3_XXS, kind.MOSTLY_IQ3_XXS: Type.IQ2_S}.get(of, self.base)
        if "ffn_down" in name:
            return self._ffn_down(layer)
        if "attn_output.weight" in name:
            return self._attention_output()
        between = n // 8 <= layer < 7 * n // 8 and ("ffn_up" in name or "ffn_gate" in name)
        return Type.IQ3_XXS if between and of == kind.MOSTLY_IQ3_XS else self.base

    def _output(self, shape: tuple[int, ...]) -> Type:
        if self.base == Type.Q8_0 or shape[0] % gguf.GGML_QUANT_SIZES[self.base][0]:
            return Type.Q8_0
        return Type.Q5_K if self.file_type in (*LEAST_BITS, LlamaFileType.MOSTLY_IQ3_XXS) else Type.Q6_K

    def _attention_v(self, layer: int, *, joined: bool) -> Type:
        """Values matter most and are small: more bits for them."""
        kind, of = LlamaFileType, self.file_type
        result = self.base
        if joined and of == kind.MOSTLY_Q4_K_M:
            result = Type.Q5_K
        elif of == kind.MOSTLY_Q2_K:
            result = Type.Q4_K if self.n_gqa >= 4 else Type.Q3_K
        elif of == kind.MOSTLY_IQ3_M or (of in Q4_IF_SHARED and self.n_gqa >= 4):
            result = Type.Q4_K
        elif of == kind.MOSTLY_Q3_K_M:
            result = Type.Q5_K if layer < 2 else Type.Q4_K
        elif of == kind.MOSTLY_Q3_K_L or (of in (kind.MOSTLY_IQ4_NL, kind.MOSTLY_IQ4_XS) and self.n_gqa >= 4):
            result = Type.Q5_K
        elif of in (kind.MOSTLY_Q4_K_M, kind.MOSTLY_Q5_K_M) and use_more_bits(layer, self.n_layers):
            result = Type.Q6_K
        elif of == kind.MOSTLY_Q4_K_S and layer < 4 and not joined:
            result = Type.Q5_K
        made_by_ollama = of in (kind.MOSTLY_Q4_K_M, kind.MOSTLY_Q4_K_S) and not self.has_importance
        if self.n_layers == N_LAYERS_70B and not made_by_ollama and result in (Type.Q3_K, Type.Q4_K):
            result = Type.Q5_K
        return Type.Q8_0 if self.has_8_experts and not joined else result

    def _ffn_down(self, layer: int) -> Type:
        kind, of, n = LlamaFileType, self.file_type, self.n_layers
        if of in (kind.MOSTLY_Q4_K_M, kind.MOSTLY_Q5_K_M):
            return Type.Q6_K if use_more_bits(layer, n) else self.base
        first = {kind.MOSTLY_Q4_K_S: Type.Q5_K, kind.MOSTLY_Q2_K_S: Type.Q4_K}
        if self.has_importance:
            first |= {kind.MOSTLY_Q4_0: Type.Q4_1, kind.MOSTLY_Q5_0: Type.Q5_1}
        else:
            first |= dict.fromkeys((kind.MOSTLY_IQ4_NL, kind.MOSTLY_IQ4_XS), Type.Q5_K)
        if of in first:
            return first[of] if layer < n // 8 else self.base
        if of == kind.MOSTLY_Q3_K_M:
            return Type.Q5_K if layer < n // 16 else Type.Q4_K
        if of == kind.MOSTLY_IQ3_M:
            more = layer < n // 8 or (self.has_8_experts and use_more_bits(layer, n))
            return Type.Q4_K if more else self.base
        return {kind.MOSTLY_Q2_K: Type.Q3_K, kind.MOSTLY_Q3_K_L: Type.Q5_K}.get(of, self.base)

    def _attention_output(self) -> Type:
        kind, of = LlamaFileType, self.file_type
        if self.has_8_experts:
            few_bits = self.base in (
                *(Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.IQ3_S, Type.IQ3_XXS, Type.IQ4_NL, Type.IQ4_XS),
            )
            return Type.Q5_K if few_bits and of not in (kind.MOSTLY_Q3_K_L, kind.MOSTLY_Q2_K_S) else self.base
        return {
            kind.MOSTLY_Q2_K: Type.Q3_K,
            kind.MOSTLY_Q3_K_M: Type.Q4_K,
            kind.MOSTLY_Q3_K_L: Type.Q5_K,
            kind.MOSTLY_IQ3_M: Type.Q4_K,
            kind.MOSTLY_IQ3_XXS: Type.IQ3_S,
        }.get(of, self.base)


def fitting(kind: Type, shape: tuple[int, ...]) -> Type:
    """`kind`, or the next one whose blocks divide the rows. `shape`: fastest dimension first."""
    for candidate in (kind, FALLBACK.get(kind, Type.F16)):
        if shape[0] % gguf.GGML_QUANT_SIZES[candidate][0] == 0:
            return candidate
    return Type.F16
