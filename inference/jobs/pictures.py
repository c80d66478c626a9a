"""What a page draws, and the same in words."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Picture:
    """`plot` for static/js/plots.js; `alternative` says the same in words."""

    plot: dict[str, Any]
    alternative: str
