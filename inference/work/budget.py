"""How large a variant may be: `q4_K_M` (as large as that), `1500MB`, `1.5GiB`, `40%` of the source."""

import re
from dataclasses import dataclass

from inference.gguf_tools.container import Header
from inference.gguf_tools.importance import Importance
from inference.gguf_tools.mixes import FILE_TYPES
from inference.gguf_tools.quantize import planned_bytes, planned_types

POWERS = {"K": 1, "M": 2, "G": 3}


@dataclass(frozen=True)
class Budget:
    """Exactly one is given."""

    type: str = ""
    n_bytes: int = 0
    share: float = 0.0

    def of(self, header: Header, importance: Importance | None = None) -> int:
        """In bytes, for the model of that file."""
        if self.type:
            return planned_bytes(header, planned_types(header, self.type, importance=importance))
        if self.share:
            return int(self.share * planned_bytes(header, {each.name: each.type for each in header.tensors}))
        return self.n_bytes


def read_budget(text: str) -> Budget:
    """Raises ValueError with a sentence."""
    if text.upper() in FILE_TYPES:
        return Budget(type=text)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|[KMG]i?B)", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ValueError(
            f"{text!r} is no budget: give a type (q4_K_M), a size (1500MB, 1.5GiB) or a share (40%)."
        )
    number, unit = float(found[1]), found[2].upper()
    if unit == "%":
        return Budget(share=number / 100)
    return Budget(n_bytes=int(number * (1024 if "I" in unit else 1000) ** POWERS[unit[0]]))
