"""The product's levels of quantization, and which of a model's variants are of one. Pure: no Django, no engine."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

INT4, INT8, FP16, DYNAMIC = "int4", "int8", "fp16", "dynamic"
LABELS = {INT4: "INT4", INT8: "INT8", FP16: "FP16", DYNAMIC: "Dynamic"}
# What a job makes for a level, as inference.jobs.parameters takes it.
MAKES = {INT4: "q4_K_M", INT8: "q8_0", FP16: "f16", DYNAMIC: "dynamic"}
_TYPES = {
    INT4: re.compile(r"(I?Q4_.*|MXFP4.*|NVFP4.*)"),
    INT8: re.compile(r"Q8_0"),
    FP16: re.compile(r"B?F16"),
}
# Bits of a weight, llama.cpp's mixes on average; Dynamic keeps to the size of Q4_K_M unless it is told another.
_BITS = {INT4: 4.85, INT8: 8.5, FP16: 16.0, DYNAMIC: 4.85, "F32": 32.0, "F16": 16.0, "BF16": 16.0}


@dataclass(frozen=True)
class Form:
    """A variant as a level is asked of it. `loss`: KL in nats per token against its source; None: not measured."""

    name: str
    quantization: str
    loss: float | None
    searched: bool = False  # a type for each tensor was looked for
    pruned: bool = False
    distilled: bool = False  # trained anew: only a person puts it to use


def is_of(level: str, quantization: str) -> bool:
    """Whether a model of this type, as its engine names it, is of the level as it is. Never of Dynamic: that is a search."""
    pattern = _TYPES.get(level)
    return pattern is not None and pattern.fullmatch(quantization.upper()) is not None


def of_level(level: str, forms: Iterable[Form]) -> list[Form]:
    """Those of the level, the best first: Ollama's own type, then the least loss, then what was not measured."""
    made = MAKES[level].upper()
    found = [
        each
        for each in forms
        if not (each.pruned or each.distilled)
        and (each.searched if level == DYNAMIC else not each.searched and is_of(level, each.quantization))
    ]
    return sorted(found, key=lambda each: (each.quantization.upper() != made, *_by_loss(each)))


def pruned(forms: Iterable[Form]) -> list[Form]:
    """Those with fewer layers and the type of their source, the least loss first."""
    return sorted((each for each in forms if each.pruned), key=_by_loss)


def _by_loss(form: Form) -> tuple[bool, float, str]:
    return form.loss is None, form.loss or 0.0, form.name


def share_of(level: str, quantization: str) -> float | None:
    """About what a variant of the level takes of the size of a source of this type; None where that is unknown."""
    bits = _BITS.get(quantization.upper())
    return None if bits is None else _BITS[level] / bits
