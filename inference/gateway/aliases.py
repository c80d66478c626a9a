"""Other names of models: a request for one is answered by what it stands for, or by a cloud when that can't."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inference.gateway.pushed import ALIASES, Pushed
from inference.names import full_name


@dataclass(frozen=True, slots=True)
class Fallback:
    """A cloud's model, for when the local one fails; and when else."""

    cloud: str
    model: str
    on_queue: int | None = None  # when more requests than this wait
    on_pressure: str = ""  # from this level of memory pressure on: some, high
    first_byte_s: float | None = None  # when the answer has not begun by then


@dataclass(frozen=True, slots=True)
class Alias:
    """`target`: in full; empty: the model of that name itself."""

    target: str
    fallback: Fallback | None = None


class Aliases(Pushed):
    """`on_change` is called after each change."""

    def __init__(self, valkey_url: str, on_change: Callable[[], None]) -> None:
        super().__init__(valkey_url, ALIASES)
        self._on_change = on_change
        self.by_name: dict[str, Alias] = {}  # full name

    def take(self, state: dict[str, Any]) -> None:
        """`{"aliases": {"llama3:latest": "llama3:q4_K_M"}, "fallbacks": {"llama3:latest": fields of Fallback}}`"""
        fallbacks = {
            full_name(str(name)): Fallback(**each) for name, each in state.get("fallbacks", {}).items()
        }
        targets = {full_name(str(name)): full_name(str(target)) for name, target in state["aliases"].items()}
        found = {
            name: Alias(targets.get(name, ""), fallbacks.get(name))
            for name in targets.keys() | fallbacks.keys()
        }
        changed, self.by_name = found != self.by_name, found
        if changed:
            self._on_change()

    def find(self, model: str) -> Alias | None:
        """None for a name that stands for itself and nothing else."""
        return self.by_name.get(full_name(model)) if self.by_name else None
