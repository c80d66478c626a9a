"""Slots of a real Ollama that are never given back: which model is stuck, and since when.

When a client leaves amid an answer on a busy CPU, Ollama (seen with 0.33.0, in 1 of 30 cases) may never release the slot: later
requests for the model wait without a byte, while /api/ps looks as usual. Unloading the model frees it. A long prompt
looks the same from outside, so three things have to come together: somebody left amid an answer of the model and none was
finished since; requests have waited without a byte for long, while no answer of the model is on its way; and the engine's
runners rest meanwhile, where they can be seen."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import psutil

from inference.gateway.eviction import Key

QUIET_S = 60.0  # without a byte, the runners at rest
UNSEEN = 5.0  # times as long for an engine elsewhere, whose runners can't be seen
AT_REST = 0.05  # CPU seconds a second of all runners together


@dataclass(slots=True)
class Standing:
    """Requests for a model, by their ids."""

    waiting: dict[str, float] = field(default_factory=dict)  # since when, by the monotonic clock
    answering: set[str] = field(default_factory=set)
    left: bool = False  # somebody left amid an answer, and none was finished since
    # How long requests waited for it without a byte, the runners at rest. It adds up: with a fallback each gives up soon.
    quiet_s: float = 0.0
    looked_at: float | None = None  # while somebody waited
    cpu_s: float = 0.0  # of the runners at `looked_at`


class Slots:
    """Told of each request to an Ollama; asked each second. `quiet_s` 0: never finds one."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self.quiet_s = quiet_s
        self._models: dict[Key, Standing] = {}
        self._freed: set[str] = set()  # requests that waited when their slot was freed

    def asked(self, key: Key, request_id: str, now: float) -> None:
        self._models.setdefault(key, Standing()).waiting[request_id] = now

    def answers(self, key: Key, request_id: str) -> None:
        """Its first byte came."""
        model = self._models[key]
        if model.waiting.pop(request_id, None) is not None:
            model.answering.add(request_id)

    def ended(self, key: Key, request_id: str, *, finished: bool, left: bool) -> None:
        """`finished`: the answer came to its end; `left`: the client went away before."""
        model = self._models[key]
        waited = model.waiting.pop(request_id, None) is not None
        model.answering.discard(request_id)
        self._freed.discard(request_id)
        if finished:
            model.left = False
        elif left and not waited:
            model.left = True
        if not (model.waiting or model.answering or model.left):
            del self._models[key]

    def suspects(self, loaded: Collection[Key]) -> list[Key]:
        """Models that may be stuck: only for these the runners have to be looked at."""
        found: list[Key] = []
        if not self.quiet_s:
            return found
        for key, model in self._models.items():
            if not model.left or model.answering or key not in loaded:
                model.quiet_s, model.looked_at = 0.0, None
            elif model.waiting:
                found.append(key)
            else:
                model.looked_at = None
        return found

    def stuck(
        self, suspects: Collection[Key], now: float, cpu_s: float, here: Callable[[Key], bool]
    ) -> dict[Key, int]:
        """How many requests wait in vain, by model. `cpu_s`: what the runners on this machine have used so far. `here`: whether
        the engine is on this machine."""
        found = {}
        for key in suspects:
            model = self._models.get(key)
            if model is None or not model.waiting:
                continue
            since = min(model.waiting.values())
            seen = here(key)
            if model.looked_at is not None:
                rests = not seen or cpu_s - model.cpu_s <= AT_REST * (now - model.looked_at)
                model.quiet_s = model.quiet_s + now - max(model.looked_at, since) if rests else 0.0
            model.looked_at, model.cpu_s = now, cpu_s
            if model.quiet_s >= self.quiet_s * (1 if seen else UNSEEN):
                found[key] = len(model.waiting)
        return found

    def freed(self, key: Key) -> None:
        """The model is unloaded for it. Should that not help, it is found again as long after."""
        if model := self._models.get(key):
            model.quiet_s, model.looked_at = 0.0, None
            self._freed |= model.waiting.keys()

    def was_freed(self, request_id: str) -> bool:
        """Whether a failure of this request came of that: it may be tried again, once."""
        return request_id in self._freed


def ollama_runners_cpu_s() -> float:
    """Of the processes `ollama runner`; those that may not be read count as at rest."""
    total = 0.0
    for process in psutil.process_iter(["name", "cmdline", "cpu_times"]):
        words, times = process.info["cmdline"] or [], process.info["cpu_times"]
        if times is not None and "runner" in words[:3] and "ollama" in (process.info["name"] or ""):
            total += times.user + times.system
    return total
