"""Other names of models: a request for one is answered by what it stands for."""

from collections.abc import Callable
from typing import Any

from inference.gateway.pushed import ALIASES, Pushed
from inference.names import full_name


class Aliases(Pushed):
    """`on_change` is called after each change."""

    def __init__(self, valkey_url: str, on_change: Callable[[], None]) -> None:
        super().__init__(valkey_url, ALIASES)
        self._on_change = on_change
        self.targets: dict[str, str] = {}  # full name -> full name

    def take(self, state: dict[str, Any]) -> None:
        """`{"aliases": {"llama3:latest": "llama3:q4_K_M"}}`"""
        targets = {full_name(str(name)): full_name(str(target)) for name, target in state["aliases"].items()}
        changed, self.targets = targets != self.targets, targets
        if changed:
            self._on_change()

    def target(self, model: str) -> str:
        """What stands behind the name; empty for a name that stands for itself."""
        return self.targets.get(full_name(model), "") if self.targets else ""
