"""How the loaded models stand: what the gateway, which keeps them within their limits, said within the last seconds."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis
from django.conf import settings

from inference.gateway.kept import KEPT_KEY, STATE_KEY, kept_field


@dataclass(frozen=True)
class Room:
    free_bytes: int
    total_bytes: int
    level: str

    @property
    def used_percent(self) -> float:
        return 100 * (1 - self.free_bytes / self.total_bytes) if self.total_bytes else 0.0


@dataclass(frozen=True)
class Standing:
    """What the gateway knows of one loaded model."""

    busy: bool
    kept: bool
    last_used: datetime


@dataclass(frozen=True)
class MemoryState:
    """`problem`: why nothing is known."""

    problem: str = ""
    in_use: str = ""  # address of the engine that requests go to
    memory: Room | None = None
    vram: Room | None = None
    vram_note: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    remote: list[str] = field(default_factory=list)  # engines on other machines
    models: dict[tuple[str, str], Standing] = field(
        default_factory=dict
    )  # by name of the engine and of the model, in full

    @property
    def idle_minutes(self) -> str:
        return f"{(self.rules.get('idle_s') or 0) / 60:g}"

    @property
    def level(self) -> str:
        """The worse of both; empty: unknown."""
        levels = [each.level for each in (self.memory, self.vram) if each is not None]
        return next((level for level in ("high", "some", "none") if level in levels), "")


def memory_state() -> MemoryState:
    try:
        raw: Any = _valkey().get(STATE_KEY)
    except redis.RedisError:
        return MemoryState("Valkey is away, so the gateway can't be asked.")
    if raw is None:
        return MemoryState("The gateway does not run: nobody keeps the models within their limits.")
    found = json.loads(raw)
    return MemoryState(
        in_use=found["in_use"],
        memory=_room(found["memory"]),
        vram=_room(found["vram"]),
        vram_note=found["vram_note"],
        limits=found["limits"],
        rules=found["rules"],
        remote=found["remote"],
        models={
            (each["engine"], each["name"]): Standing(
                each["busy"], each["kept"], datetime.fromtimestamp(each["last_used"], UTC)
            )
            for each in found["loaded"]
        },
    )


def keep(url: str, name: str, until: float) -> bool:
    """Tell the gateway that a person keeps this model until then (unix time in s, or inf). False: Valkey is away."""
    try:
        _valkey().hset(KEPT_KEY, kept_field(url, name), str(until))
    except redis.RedisError:
        return False
    return True


def _valkey() -> redis.Redis:
    return redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)


def _room(found: dict[str, Any] | None) -> Room | None:
    return None if found is None else Room(found["free_bytes"], found["total_bytes"], found["level"])
