"""What a Llama-like file says of itself: all that its layers need to be computed. Refuses what is computed otherwise."""

import re
from dataclasses import dataclass

from inference.gguf_tools.container import Header
from inference.gguf_tools.prune import n_layers

ARCHITECTURES = ("llama",)
LAYER_PARTS = frozenset(
    f"{name}.weight"
    for name in (
        "attn_norm",
        "ffn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    )
)
SHARED = frozenset({"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"})
NOT_TRAINED = "rope_freqs.weight"


class ShapeError(ValueError):
    """The model is computed in a way that is not known here; the text says which."""


@dataclass(frozen=True)
class Shape:
    """`rotated`: of the dimensions of a head, those that turn with the position; `head`: dimensions of a head."""

    n_layers: int
    dim: int
    ffn: int
    n_heads: int
    n_kv_heads: int
    head: int
    rotated: int
    context: int
    vocab: int
    epsilon: float
    rope_base: float


def read_shape(header: Header) -> Shape:
    """Raises ShapeError, and PruneError (see prune.n_layers)."""
    architecture = header.keys.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ShapeError(f"its architecture is {architecture}, and only {', '.join(ARCHITECTURES)} is known")
    keys = {
        name.removeprefix(f"{architecture}."): value
        for name, value in header.keys.items()
        if name.startswith(f"{architecture}.")
    }
    if lists := [name for name, value in keys.items() if value is None]:
        raise ShapeError(f"its {lists[0]} differs from layer to layer")
    if keys.get("expert_count"):
        raise ShapeError("it has experts")
    if keys.get("attention.sliding_window"):
        raise ShapeError("its attention has a window")
    if keys.get("rope.scaling.type", "none") != "none":
        raise ShapeError(f"its positions are scaled ({keys['rope.scaling.type']})")
    total = n_layers(header)
    present = {each.name for each in header.tensors}
    expected = {f"blk.{layer}.{part}" for layer in range(total) for part in LAYER_PARTS}
    if unknown := sorted(present - expected - SHARED):
        raise ShapeError(f"what its tensor {unknown[0]} does is not known")
    if missing := sorted((expected | SHARED - {"output.weight", NOT_TRAINED}) - present):
        raise ShapeError(f"it has no tensor {missing[0]}")
    dim, n_heads = _number(keys, "embedding_length"), _number(keys, "attention.head_count")
    head = int(keys.get("attention.key_length") or dim // n_heads)
    vocab = next(each.shape[1] for each in header.tensors if each.name == "token_embd.weight")
    return Shape(
        n_layers=total,
        dim=dim,
        ffn=_number(keys, "feed_forward_length"),
        n_heads=n_heads,
        n_kv_heads=int(keys.get("attention.head_count_kv") or n_heads),
        head=head,
        rotated=int(keys.get("rope.dimension_count") or head),
        context=_number(keys, "context_length"),
        vocab=vocab,
        epsilon=float(keys.get("attention.layer_norm_rms_epsilon") or 1e-5),
        rope_base=float(keys.get("rope.freq_base") or 10_000.0),
    )


def _number(keys: dict[str, object], name: str) -> int:
    found = keys.get(name)
    if not isinstance(found, int) or found < 1:
        raise ShapeError(f"it does not say its {name}, as one number")
    return found


def renumbered(name: str, kept: tuple[int, ...]) -> str | None:
    """The name that a tensor of the teacher has in the student; None where its layer goes."""
    match = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if match is None:
        return name
    layer = int(match[1])
    return f"blk.{kept.index(layer)}.{match[2]}" if layer in kept else None


def n_weights(header: Header, kept: tuple[int, ...]) -> int:
    return sum(each.n_elements for each in header.tensors if renumbered(each.name, kept) is not None)
