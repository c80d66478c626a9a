"""What changed between two samples that a person wants to see: pure comparison, no I/O."""

from typing import Any

THRASH_S = 120.0
MOVED = 0.01  # so much of a model on another place is told


def changes(before: dict[str, Any] | None, after: dict[str, Any]) -> list[tuple[str, str]]:
    """(kind, text) of what happened between two states of a sample; nothing at the first sample."""
    if before is None:
        return []
    return [*_engine(before, after), *_models(before, after), *_gpus(before, after)]


def _engine(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    old, new = before.get("engine") or {}, after.get("engine") or {}
    if not new or not old:
        return []
    name = "Ollama" if new.get("kind") == "ollama" else "embedded engine"
    if old.get("url") != new.get("url"):
        return [("engine", f"engine in use: {name} {new.get('version') or ''}".strip())]
    if old.get("up") and not new.get("up"):
        return [("engine", f"{name} does not answer")]
    if new.get("up") and not old.get("up"):
        return [("engine", f"{name} answers again")]
    return []


def _models(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    if not (after.get("engine") or {}).get("up") or not (before.get("engine") or {}).get("up"):
        return []
    old = {each["name"]: each for each in before.get("models") or []}
    new = {each["name"]: each for each in after.get("models") or []}
    found = [("model", _loaded(name, after)) for name in new if name not in old]
    found += [("model", f"{name} unloaded") for name in old if name not in new]
    for name in new.keys() & old.keys():
        was, now = old[name].get("context_length"), new[name].get("context_length")
        if was != now:
            found.append(("model", f"{name} reloaded: context {was} to {now}"))
        before_share, share = old[name].get("gpu_share"), new[name].get("gpu_share")
        if before_share is not None and share is not None and abs(share - before_share) >= MOVED:
            found.append(("model", f"{name}: {share:.0%} on the GPU, was {before_share:.0%}"))
    return found


def _loaded(name: str, after: dict[str, Any]) -> str:
    """With the model that had to leave for it, if one did; soon after its own load that is thrash, paid for in seconds."""
    pushed = [each for each in after.get("left_early") or [] if each["name"] != name]
    if not pushed:
        return f"{name} loaded"
    out = pushed[-1]
    when = f" {out['loaded_s']:.0f} s after its own load" if out["loaded_s"] < THRASH_S else ""
    return f"{name} loaded in the place of {out['name']}, evicted{when}"


def _gpus(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    serious = {"hardware slowdown", "hardware thermal", "power brake", "software thermal"}
    old = {each["index"]: set(each.get("throttle") or ()) for each in before.get("gpus") or []}
    found = []
    for gpu in after.get("gpus") or []:
        began = (set(gpu.get("throttle") or ()) & serious) - old.get(gpu["index"], set())
        found += [("gpu", f"GPU {gpu['index']}: {reason}") for reason in sorted(began)]
    return found
