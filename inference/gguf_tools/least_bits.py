"""The mixes of the smallest file types, below three bits per weight: rules of their own in llama.cpp's quantizer."""

from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType as Kind

ABOUT_TWO_AND_A_HALF = (Kind.MOSTLY_IQ2_S, Kind.MOSTLY_IQ2_M)
ABOUT_ONE = (Kind.MOSTLY_IQ1_S, Kind.MOSTLY_IQ1_M)
LEAST_BITS = (*ABOUT_ONE, Kind.MOSTLY_IQ2_XXS, Kind.MOSTLY_IQ2_XS, *ABOUT_TWO_AND_A_HALF)


def type_in_layer(of: Kind, base: Type, name: str, *, first_eighth: bool, n_gqa: int, n_experts: int) -> Type:
    """Of tensor `name` of a layer, in a file of type `of` whose tensors are mostly `base`."""
    better = Type.IQ3_S if of in ABOUT_TWO_AND_A_HALF else Type.Q2_K
    if "attn_v.weight" in name or "attn_qkv.weight" in name:
        return Type.Q4_K if n_gqa >= 4 or n_experts >= 4 else better
    if "attn_k.weight" in name and n_experts == 8:
        return Type.Q4_K
    if "ffn_down" in name:
        return better if first_eighth else base
    if "attn_output.weight" in name:
        if n_experts == 8:
            return Type.Q5_K
        return Type.IQ2_XXS if of in ABOUT_ONE else Type.IQ3_S if of in ABOUT_TWO_AND_A_HALF else base
    return base
