"""The type of each tensor of a variant, as a table of kinds by layers."""

import re
from dataclasses import dataclass

import gguf
from gguf import GGMLQuantizationType as Type

from inference.models import Variant


@dataclass(frozen=True)
class Cell:
    """`bits`: per weight, rounded, for the shade; 0 where the model has no such tensor in the layer."""

    text: str = ""
    bits: int = 0


@dataclass(frozen=True)
class HeatMap:
    """`rows`: (kind of tensor, a cell of each layer); `single`: tensors outside the layers."""

    layers: list[int]
    rows: list[tuple[str, list[Cell]]]
    single: list[tuple[str, Cell]]


def heat_map(variant: Variant) -> HeatMap | None:
    """Matrices only: vectors stay as they are. None where the types are unknown."""
    types: dict[str, str] = variant.measure("tensors", "types") or {}
    by_kind: dict[str, dict[int, Cell]] = {}
    single: list[tuple[str, Cell]] = []
    for name, kind in types.items():
        cell = _cell(kind)
        if not name.endswith(".weight") or "norm" in name:
            continue
        if found := re.fullmatch(r"blk\.(\d+)\.(.+)\.weight", name):
            by_kind.setdefault(found[2], {})[int(found[1])] = cell
        else:
            single.append((name.removesuffix(".weight"), cell))
    if not by_kind:
        return None
    layers = sorted({layer for cells in by_kind.values() for layer in cells})
    rows = [(kind, [cells.get(layer, Cell()) for layer in layers]) for kind, cells in by_kind.items()]
    return HeatMap(layers, rows, single)


def _cell(kind: str) -> Cell:
    try:
        block, n_bytes = gguf.GGML_QUANT_SIZES[Type[kind.upper()]]
    except KeyError:  # a type newer than the gguf package
        return Cell(kind, 0)
    return Cell(kind, round(8 * n_bytes / block))
