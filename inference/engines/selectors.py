"""The one list of engines, and what clouds have cost."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import redis
from django.conf import settings
from django.utils import timezone

from inference.gateway.engines import SETTINGS_PRIORITY
from inference.gateway.records import STATS_KEY
from inference.models import CloudMonth, Engine, EngineKind
from safeguards.sealing import engine_secrets

LABELS = {"ollama": "Ollama", "embedded": "Embedded engine"}


@dataclass(frozen=True)
class EngineAddress:
    """A local engine, which speaks Ollama's API. `name` is what requests, models and jobs call it."""

    name: str
    url: str
    kind: str

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name)

    @property
    def pulls(self) -> bool:
        return self.kind == EngineKind.OLLAMA


def addresses() -> list[EngineAddress]:
    """All local engines in use, in the order in which the gateway prefers them."""
    own = [
        (SETTINGS_PRIORITY[each["kind"]], each["kind"], each["url"], each["kind"])
        for each in settings.ENGINES
    ]
    added = Engine.objects.filter(enabled=True, kind=EngineKind.OLLAMA).values_list(
        "priority", "name", "url", "kind"
    )
    return [EngineAddress(name, url, kind) for _, name, url, kind in sorted([*own, *added])]


def address(name: str) -> EngineAddress | None:
    return next((each for each in addresses() if each.name == name), None)


def clouds() -> Sequence[Engine]:
    """Those in use."""
    return list(Engine.objects.filter(enabled=True, kind=EngineKind.OPENAI))


def key_of(engine: Engine) -> str:
    """The API key; empty: it has none. Raises SealError."""
    return engine_secrets.unseal(engine.sealed).get("key", "")


def month_of(now: datetime) -> date:
    return now.astimezone(UTC).date().replace(day=1)


def months(now: datetime) -> dict[str, CloudMonth]:
    """What each cloud has cost this month, by its name."""
    return {each.engine: each for each in CloudMonth.objects.filter(month=month_of(now))}


def gateway_state() -> dict[str, Any]:
    """For inference.gateway.added. Keys go as they lie here: sealed."""
    now = timezone.now()
    spent = months(now)

    def fields(each: Engine) -> dict[str, Any]:
        told: dict[str, Any] = {
            "kind": each.kind,
            "url": each.url,
            "name": each.name,
            "priority": each.priority,
        }
        if each.is_cloud:
            month = spent.get(each.name)
            told |= {
                "sealed": each.sealed,
                "budget_usd": None if each.budget_usd is None else float(each.budget_usd),
                "spent_usd": float(month.cost_usd) if month else 0.0,
                "month": f"{month_of(now):%Y-%m}",
            }
        return told

    return {"engines": [fields(each) for each in Engine.objects.filter(enabled=True)]}


@dataclass(frozen=True)
class Health:
    """As the gateway told within the last seconds; None: unknown, or not asked yet."""

    up: bool | None = None
    version: str = ""
    n_models: int | None = None
    latency_ms: float | None = None
    recent_ms: float | None = None
    error: str = ""
    error_at: datetime | None = None


@dataclass(frozen=True)
class Standing:
    """An engine on the page; `row`: None for one of the settings."""

    name: str
    label: str
    kind: str
    url: str
    priority: int
    enabled: bool
    health: Health
    in_use: bool  # the one that gets what no engine has listed
    row: Engine | None = None
    spent: CloudMonth | None = None

    @property
    def is_cloud(self) -> bool:
        return self.row is not None and self.row.is_cloud

    @property
    def state(self) -> str:
        if not self.enabled:
            return "off"
        return {None: "unknown", True: "ok", False: "down"}[self.health.up]

    @property
    def is_over_budget(self) -> bool:
        budget = self.row.budget_usd if self.row else None
        return budget is not None and (self.spent.cost_usd if self.spent else Decimal(0)) >= budget


def standings(now: datetime) -> tuple[list[Standing], str]:
    """All engines, those out of use too, in the order of preference; and why nothing is known of their health."""
    told, problem = _told()
    by_name = {each["name"]: each for each in told.get("engines") or ()}
    in_use = (told.get("engine") or {}).get("url")
    spent = months(now)
    found = [
        Standing(
            each["kind"], LABELS[each["kind"]], each["kind"], each["url"], SETTINGS_PRIORITY[each["kind"]],
            enabled=True, health=_health(by_name.get(each["kind"])), in_use=each["url"] == in_use,
        )
        for each in settings.ENGINES
    ]  # fmt: skip
    found += [
        Standing(
            each.name, each.name, each.kind, each.url, each.priority, enabled=each.enabled,
            health=_health(by_name.get(each.name)), in_use=each.url == in_use, row=each, spent=spent.get(each.name),
        )
        for each in Engine.objects.all()
    ]  # fmt: skip
    return sorted(found, key=lambda each: (each.is_cloud, each.priority, each.name)), problem


def _told() -> tuple[dict[str, Any], str]:
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        raw: Any = client.get(STATS_KEY)
    except redis.RedisError:
        return {}, "Valkey is away, so the gateway can't be asked how the engines are."
    finally:
        client.close()
    if raw is None:
        return {}, "The gateway does not run: nobody knows how the engines are."
    return dict(json.loads(raw)), ""


def _health(told: dict[str, Any] | None) -> Health:
    if told is None:
        return Health()
    at = told["error_at"]
    return Health(
        up=told["up"] if told["asked"] else None,
        version=told["version"] or "",
        n_models=told["n_models"],
        latency_ms=told["latency_ms"],
        recent_ms=told["recent_ms"],
        error=told["error"],
        error_at=None if at is None else datetime.fromtimestamp(at, UTC),
    )
