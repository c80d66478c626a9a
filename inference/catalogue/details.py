"""What `/api/show` tells of a model, in the form of the page."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

LONGEST = 200


@dataclass(frozen=True)
class TensorType:
    """`n_bytes` None: a type that we don't know the size of."""

    name: str
    n_tensors: int
    n_values: int
    n_bytes: int | None
    share: float  # of all values, 0 to 1


@dataclass(frozen=True)
class Details:
    """Empty where the engine does not say."""

    parameters: list[tuple[str, str]]
    template: str
    system: str
    license: str
    modelfile: str
    capabilities: tuple[str, ...]
    info: list[tuple[str, str]]
    tensor_types: list[TensorType]
    n_tensors: int


def details_of(shown: dict[str, Any]) -> Details:
    tensors = [each for each in shown.get("tensors") or () if isinstance(each, dict)]
    licenses = shown.get("license") or ""
    return Details(
        parameters=_parameters(str(shown.get("parameters") or "")),
        template=str(shown.get("template") or ""),
        system=str(shown.get("system") or ""),
        license="\n\n".join(map(str, licenses)) if isinstance(licenses, list) else str(licenses),
        modelfile=str(shown.get("modelfile") or ""),
        capabilities=tuple(map(str, shown.get("capabilities") or ())),
        info=[(name, _words(value)) for name, value in sorted((shown.get("model_info") or {}).items())],
        tensor_types=_types(tensors),
        n_tensors=len(tensors),
    )


def _parameters(text: str) -> list[tuple[str, str]]:
    """Lines of `name    value`."""
    pairs = (line.strip().partition(" ") for line in text.splitlines() if line.strip())
    return [(name, value.strip()) for name, _, value in pairs]


def _words(value: Any) -> str:
    if value is None:
        return "left out by the engine"
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value):,} values"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _types(tensors: list[dict[str, Any]]) -> list[TensorType]:
    """The one with most values first."""
    n_tensors, n_values = Counter[str](), Counter[str]()
    for each in tensors:
        name = str(each.get("type"))
        n_tensors[name] += 1
        n_values[name] += prod(int(size) for size in each.get("shape") or (0,))
    every = sum(n_values.values()) or 1
    return [
        TensorType(name, n_tensors[name], n, _n_bytes(name, n), n / every)
        for name, n in n_values.most_common()
    ]


def _n_bytes(type_name: str, n_values: int) -> int | None:
    try:
        block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name.upper()]]
    except KeyError:
        return None
    return n_values // block * n_bytes
