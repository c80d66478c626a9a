"""Series that no single reader has: pure arithmetic over samples."""

import math
from collections import deque
from typing import Any

from monitoring.readers.base import Values

WINDOW_S = 60
SENSOR_ERROR = 0.05  # of the power, as NVIDIA states for most boards
EDGE_S = 1.0  # how far the energy's and the tokens' ends of the window may lie apart


class JoulesPerToken:
    """Energy of all GPUs over the tokens of the last minute, gross: what the machine draws when idle is in it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque()  # (at, joules, tokens)

    def of(self, at: float, values: Values, state: dict[str, Any]) -> Values:
        """`gpu_joules_per_token` and its standard error; None without an energy counter or without tokens. A counter that
        ran backwards (a driver loaded anew, a gateway restarted) begins the window anew."""
        energies = [value for name, value in values.items() if name.startswith("gpu_energy_j")]
        tokens = (state.get("gateway") or {}).get("tokens_total")
        if not energies or None in energies or tokens is None:
            self._seen.clear()
            return dict.fromkeys(("gpu_joules_per_token", "gpu_joules_per_token_error")) if energies else {}
        energy = sum(each for each in energies if each is not None)
        if self._seen and (
            energy < self._seen[-1][1] or tokens < self._seen[-1][2] or at <= self._seen[-1][0]
        ):
            self._seen.clear()
        self._seen.append((at, energy, float(tokens)))
        while self._seen[0][0] < at - WINDOW_S:
            self._seen.popleft()
        first_at, first_energy, first_tokens = self._seen[0]
        n, spent = tokens - first_tokens, energy - first_energy
        if n < 1:
            return {"gpu_joules_per_token": None, "gpu_joules_per_token_error": None}
        edge = spent / (at - first_at) * EDGE_S
        error = math.hypot(SENSOR_ERROR * spent, edge)
        return {"gpu_joules_per_token": spent / n, "gpu_joules_per_token_error": error / n}


def cpu_of_others(values: Values, state: dict[str, Any]) -> Values:
    """What of the CPU was used by processes that run no model; None where a loaded model's process is not known. Both sides are
    of about the last second, not of the same one."""
    busy = values.get("cpu_percent")
    models = [each.get("process_cpu_percent") for each in state.get("models") or ()]
    if "cpu_percent" not in values or not (state.get("engine") or {}).get("up"):
        return {}
    if busy is None or None in models:
        return {"cpu_others_percent": None}
    return {"cpu_others_percent": max(busy - sum(each for each in models if each is not None), 0.0)}
