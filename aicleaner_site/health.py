"""State of each part of the product, for `/healthz`, `manage.py up` and the dashboard."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection

COLLECTOR_LATE_S = 5


@dataclass(frozen=True)
class Part:
    name: str
    ok: bool
    detail: str


def check() -> list[Part]:
    """Ask every part; takes a second at most when the Valkey server is away."""
    parts = [_database()]
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        last, gateway, worker, beat = client.mget(
            "aicleaner:live:last", "aicleaner:gateway:stats", "aicleaner:alive:worker", "aicleaner:alive:beat"
        )
    except redis.RedisError as error:
        unknown = "unknown: no Valkey to ask"
        return [
            *parts,
            Part("valkey", False, f"no answer: {type(error).__name__}"),
            *(Part(name, False, unknown) for name in ("collector", "gateway", "engine", "worker", "beat")),
        ]
    finally:
        client.close()
    return [
        *parts,
        Part("valkey", True, "answers"),
        _collector(_json(last)),
        *_gateway_and_engine(_json(gateway)),
        Part("worker", worker is not None, "alive" if worker else "no sign of life"),
        Part("beat", beat is not None, "alive" if beat else "no sign of life"),
    ]


def report(parts: list[Part]) -> dict[str, Any]:
    return {
        "status": "ok" if all(part.ok for part in parts) else "degraded",
        "parts": {part.name: {k: v for k, v in asdict(part).items() if k != "name"} for part in parts},
    }


def _json(raw: bytes | str | None) -> dict[str, Any] | None:
    return json.loads(raw) if raw else None


def _database() -> Part:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Part("database", False, f"no answer: {type(error).__name__}")
    return Part("database", True, connection.vendor)


def _collector(last: dict[str, Any] | None) -> Part:
    if last is None:
        return Part("collector", False, "no sample")
    age = max(time.time() - last["at"], 0.0)
    return Part("collector", age <= COLLECTOR_LATE_S, f"last sample {age:.1f} s ago")


def _gateway_and_engine(stats: dict[str, Any] | None) -> list[Part]:
    if stats is None:
        return [
            Part("gateway", False, "no sign of life"),
            Part("engine", False, "unknown: no gateway to ask"),
        ]
    engine = stats.get("engine") or {}
    detail = (
        f"{engine.get('kind')} {engine.get('version') or ''} at {engine.get('url')}"
        if engine
        else "none answers"
    )
    return [Part("gateway", True, "serving"), Part("engine", bool(engine.get("up")), detail)]
