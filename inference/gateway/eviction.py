"""Which loaded model has to go, and why. Pure: no clock, no engine, no Valkey.

One rule at a time, one model at a time, the least recently used first, never one that is busy. docs/models.md has the table."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inference.names import full_name
from inference.sizes import size

Level = Literal["none", "some", "high"]
SOME_FREE, HIGH_FREE = 0.2, 0.1  # share of a memory that is free; below it the pressure is some, or high
SOME_IDLE_S, HIGH_IDLE_S = 300.0, 30.0  # idle for so long a model goes under that pressure
Key = tuple[str, str]  # address of the engine, full name of the model


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model as `/api/ps` tells of it; `memory_bytes` is what of it is not on a GPU."""

    url: str
    engine: str  # its name
    name: str
    digest: str
    memory_bytes: int
    vram_bytes: int
    expires_at: str
    is_here: bool = True  # on this machine: its memory is the one that is known

    @property
    def key(self) -> Key:
        return self.url, self.name


@dataclass(frozen=True, slots=True)
class Rules:
    """From `resource_management` of config.yaml; None: no such rule."""

    max_loaded: int | None = None
    idle_s: float | None = None
    relieves: bool = False  # whether pressure unloads


@dataclass(frozen=True, slots=True)
class Limits:
    """What all loaded models together may take, as the profile says or, without one (""), config.yaml."""

    memory_bytes: int | None = None
    vram_bytes: int | None = None
    profile: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """One kind of memory of this machine."""

    free_bytes: int
    total_bytes: int

    @property
    def level(self) -> Level:
        share = self.free_bytes / self.total_bytes if self.total_bytes else 1.0
        return "high" if share < HIGH_FREE else "some" if share < SOME_FREE else "none"


@dataclass(frozen=True, slots=True)
class Eviction:
    model: Loaded
    reason: str


def read_loaded(url: str, engine: str, answer: Mapping[str, Any], *, is_here: bool) -> list[Loaded]:
    """From the answer of `/api/ps`. Raises KeyError, TypeError or ValueError when it makes no sense."""
    found = []
    for each in answer.get("models") or []:
        whole, vram = int(each.get("size") or 0), int(each.get("size_vram") or 0)
        found.append(
            Loaded(
                url,
                engine,
                full_name(str(each["name"])),
                str(each.get("digest") or ""),
                max(whole - vram, 0),
                vram,
                str(each.get("expires_at") or ""),
                is_here,
            )
        )
    return found


def choose(
    loaded: Collection[Loaded],
    last_used: Mapping[Key, float],
    now: float,
    *,
    busy: Collection[Key],
    kept: Collection[Key],
    rules: Rules,
    limits: Limits,
    memory: Room | None,
    vram: Room | None,
) -> Eviction | None:
    """`last_used` and `now` by one clock, in s; what was loaded or used this very moment has not had its turn yet.
    `kept`: a person keeps these; they go last, and never for being idle. `memory`, `vram`: None where unknown, and then
    nothing goes for its sake."""
    idle = sorted(
        (each for each in loaded if each.key not in busy),
        key=lambda each: (each.key in kept, last_used.get(each.key, now)),
    )
    if not idle:
        return None
    first = idle[0]
    idle_s = now - last_used.get(first.key, now)
    if rules.idle_s is not None and first.key not in kept and idle_s >= rules.idle_s:
        return Eviction(
            first, f"idle for {minutes(idle_s)}, and unload_timeout_minutes is {rules.idle_s / 60:g}"
        )
    if rules.max_loaded is not None and len(loaded) > rules.max_loaded and idle_s > 0:
        return Eviction(
            first, f"{len(loaded)} models were loaded, and model_cache_size is {rules.max_loaded}"
        )
    if len(loaded) > 1:  # one alone stays, above a limit or not: it would only be loaded again
        for limit, what in ((limits.memory_bytes, "memory"), (limits.vram_bytes, "vram")):
            taken = sum(_bytes(each, what) for each in loaded)
            goes = next((each for each in idle if _bytes(each, what)), None)
            if (
                limit is not None
                and taken > limit
                and goes is not None
                and last_used.get(goes.key, now) < now
            ):
                of = f"profile {limits.profile}" if limits.profile else CONFIG_KEYS[what]
                words = f"the loaded models took {size(taken)} of {WORDS[what]}, {of} allows {size(limit)}"
                return Eviction(goes, words)
    return _relieve(idle, last_used, now, kept=kept, memory=memory, vram=vram) if rules.relieves else None


def _relieve(
    idle: list[Loaded],
    last_used: Mapping[Key, float],
    now: float,
    *,
    kept: Collection[Key],
    memory: Room | None,
    vram: Room | None,
) -> Eviction | None:
    for room, what in ((memory, "memory"), (vram, "vram")):
        if room is None or room.level == "none":
            continue
        for each in idle:
            idle_s = now - last_used.get(each.key, now)
            spared = room.level == "some" and each.key in kept
            if each.is_here and _bytes(each, what) and not spared and idle_s >= PATIENCE_S[room.level]:
                free = f"{room.free_bytes / room.total_bytes:.0%} of {size(room.total_bytes)} free"
                reason = f"pressure on {WORDS[what]} was {room.level} ({free}), idle for {minutes(idle_s)}"
                return Eviction(each, reason)
    return None


WORDS = {"memory": "memory", "vram": "GPU memory"}
CONFIG_KEYS = {"memory": "memory_limit_mb", "vram": "memory_fraction"}
PATIENCE_S: dict[str, float] = {"some": SOME_IDLE_S, "high": HIGH_IDLE_S}


def _bytes(model: Loaded, what: str) -> int:
    return model.memory_bytes if what == "memory" else model.vram_bytes


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
