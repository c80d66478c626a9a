"""Series that no single reader has: pure arithmetic over samples."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from monitoring.readers.base import Values, label

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


MOVED_PERCENT = 1.0  # so much less or more of a model on the CPU is a change
NEWS_S = 600.0  # for so long after a change it is told how much more it is
GONE_S, END_S = 600.0, 300.0  # a model that left so long ago runs nowhere; for so long after that it is said
MOST_MODELS = 100  # remembered


@dataclass
class _Seen:
    """`percent` of it on the CPU, `before` its last change at `changed_at`; `left_at`: when it was unloaded. All times are
    monotonic seconds."""

    percent: float
    before: float
    changed_at: float
    left_at: float | None = None


class LeftToCpu:
    """What of each model is left to the CPU on a machine that has GPUs, and how much more that is than before, be it at
    its last load: a load takes longer than any window in which a jump could be seen."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def of(self, now: float, state: dict[str, Any]) -> Values:
        """`model_spilled_percent` and `model_spilled_more_percent`. A model that is not loaded has none, and after GONE_S 0
        for a while: by then it is no gap, nothing of it runs on the CPU. Without an engine or a GPU nothing is known."""
        if not state["gpus"] or not (state.get("engine") or {}).get("up"):
            return {}
        loaded = {each["name"]: each["gpu_share"] for each in state.get("models") or ()}
        values: Values = {}
        for name, share in loaded.items():
            if share is not None:
                values |= _left(name, *self._look(name, 100 * (1 - share), now))
        for name, seen in self._seen.items():
            if name not in loaded:
                seen.left_at = now if seen.left_at is None else seen.left_at
                if GONE_S <= now - seen.left_at < GONE_S + END_S:
                    values |= _left(name, 0.0, 0.0)
        while len(self._seen) > MOST_MODELS:
            del self._seen[next(iter(self._seen))]
        return values

    def _look(self, name: str, percent: float, now: float) -> tuple[float, float]:
        seen = self._seen.pop(name, None) or _Seen(percent, percent, now - NEWS_S)
        if abs(percent - seen.percent) >= MOVED_PERCENT:
            before = seen.before if now - seen.changed_at < NEWS_S else seen.percent
            seen = _Seen(percent, before, now)
        seen.left_at = None
        self._seen[name] = seen  # the last ones are those seen last
        return percent, percent - seen.before if now - seen.changed_at < NEWS_S else 0.0


def _left(name: str, percent: float, more: float) -> Values:
    labels = f"{{model={label(name)}}}"
    return {f"model_spilled_percent{labels}": percent, f"model_spilled_more_percent{labels}": more}


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
