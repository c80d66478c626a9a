"""How fast two models load, read and write, in turns AB BA so that a drift of the machine touches both."""

import secrets
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from inference.quality.paired import ratio
from inference.work.engine import EngineClient
from inference.work.messages import say, step

N_LOADS = 3
TEXT = "A list of things that a careful person looks at in a room: the floor, the table, the windows, the shelves. "


def compare_speed(engine: EngineClient, source: str, variant: str, n_pairs: int, num_predict: int) -> None:
    loads: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, dict[str, int]] = {}
    turns = _turns(source, variant, N_LOADS)
    for number, model in enumerate(turns, 1):
        engine.unload(model)
        found = engine.load(model)
        loads[model].append(found.ms)
        memory[model] = {"size_bytes": found.size_bytes, "vram_bytes": found.vram_bytes}
        step("load both", number, len(turns), "loads")
    rates: dict[str, dict[str, list[float]]] = {model: defaultdict(list) for model in (source, variant)}
    turns = _turns(source, variant, n_pairs)
    for number, model in enumerate(turns, 1):
        engine.generate(model, TEXT, num_predict=1)  # loaded, and its caches warm
        for name, value in _rates(engine, model, num_predict).items():
            rates[model][name].append(value)
        step("time both", number, len(turns), "turns")
    say(
        "speed",
        load_ms=_ratio(loads[source], loads[variant]),
        decode_tokens_per_s=_ratio(rates[source]["decode"], rates[variant]["decode"]),
        prefill_tokens_per_s=_ratio(rates[source]["prefill"], rates[variant]["prefill"]),
        source=memory[source],
        variant=memory[variant],
    )


def _turns(a: str, b: str, n_pairs: int) -> list[str]:
    return [model for pair in range(n_pairs) for model in ((a, b) if pair % 2 == 0 else (b, a))]


def _rates(engine: EngineClient, model: str, num_predict: int) -> dict[str, float]:
    """Tokens a second by the engine's own clock; 0 where it counts none. The prompt begins anew each time, so that nothing
    of it is cached."""
    answer = engine.generate(model, f"{secrets.token_hex(8)} {TEXT * 3}", num_predict=num_predict)
    return {
        "decode": _per_s(answer.get("eval_count"), answer.get("eval_duration")),
        "prefill": _per_s(answer.get("prompt_eval_count"), answer.get("prompt_eval_duration")),
    }


def _per_s(count: Any, nanoseconds: Any) -> float:
    return count / nanoseconds * 1e9 if count and nanoseconds else 0.0


def _ratio(a: list[float], b: list[float]) -> dict[str, Any] | None:
    n = min(len(a), len(b))
    found = ratio(a[:n], b[:n])
    return None if found is None else asdict(found)
