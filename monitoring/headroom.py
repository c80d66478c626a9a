"""Whether a model that is on the disk would fit beside what is loaded. Pure arithmetic, no I/O.

What it needs is what it took when it was last loaded, where the collector saw that; else its file and the KV cache of
CONTEXT tokens at f16, to which buffers come; else its file alone. Nothing is unloaded for it in this reckoning."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from monitoring.kv_cache import Cache, kv_cache_bytes

CONTEXT = (
    4096  # what Ollama and the embedded engine load with, when neither request nor setting says otherwise
)
MOST = 30  # models told of


@dataclass(frozen=True)
class Need:
    """`basis`: `measured`, `computed` or `weights` (the least that it takes)."""

    n_bytes: int
    basis: str
    context: int | None


def need_of(
    weights: int, info: Mapping[str, Any] | None, measured: tuple[int, int | None] | None
) -> Need | None:
    """`measured`: bytes and context of its last load. None where not even the file's size is known."""
    if measured is not None:
        return Need(measured[0], "measured", measured[1])
    if not weights:
        return None
    trained = (info or {}).get(f"{(info or {}).get('general.architecture')}.context_length")
    context = min(CONTEXT, int(trained)) if isinstance(trained, int) and trained > 0 else CONTEXT
    cache = kv_cache_bytes(info, context, Cache()) if info else None
    return Need(weights, "weights", None) if cache is None else Need(weights + cache, "computed", context)


@dataclass(frozen=True)
class Fit:
    """`place`: `gpu` wholly, `split` (gpu_share of it there, the rest in memory), `memory`, `none` (`short_bytes` are
    missing), or `unknown`."""

    place: str
    gpu_share: float = 0.0
    short_bytes: int = 0


def fit_of(n_bytes: int, free_vram: float | None, free_memory: float | None) -> Fit:
    """`free_vram`: of all GPUs that the engine uses; None where it uses none."""
    vram = max(free_vram or 0.0, 0.0)
    if vram >= n_bytes:
        return Fit("gpu", 1.0)
    if free_memory is None:
        return Fit("unknown")
    short = n_bytes - vram - free_memory
    if short > 0:
        return Fit("none", short_bytes=round(short))
    return Fit("split", vram / n_bytes) if vram > 0 else Fit("memory")


def room(state: Mapping[str, Any], values: Mapping[str, float | None]) -> dict[str, Any] | None:
    """Of a sample: what is free, and for each model on the disk that is not loaded whether it fits. None while the engine does
    not answer."""
    engine = state.get("engine") or {}
    if not engine.get("up") or "on_disk" not in state:
        return None
    memory = values.get("memory_available_bytes")
    vram = None if engine.get("kind") == "embedded" else _free_vram(values)
    loaded = {each["name"] for each in state.get("models") or ()}
    others = [each for each in state["on_disk"] if each["name"] not in loaded]
    return {
        "free_vram_bytes": vram,
        "free_memory_bytes": memory,
        "n_more": max(len(others) - MOST, 0),
        "models": [
            {**each, **asdict(fit_of(each["n_bytes"], vram, memory))}
            if each["n_bytes"]
            else {**each, **asdict(Fit("unknown"))}
            for each in others[:MOST]
        ],
    }


def _free_vram(values: Mapping[str, float | None]) -> float | None:
    """None without a GPU, or where one does not tell."""
    totals = {
        name.partition("{")[2]: value
        for name, value in values.items()
        if name.startswith("gpu_memory_total_bytes")
    }
    free = [
        (total, values.get(f"gpu_memory_used_bytes{{{labels}" if labels else "gpu_memory_used_bytes"))
        for labels, total in totals.items()
    ]
    if not free or any(total is None or used is None for total, used in free):
        return None
    return sum(max(total - used, 0.0) for total, used in free if total is not None and used is not None)
