"""Questions about API keys."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from django.conf import settings
from django.utils import timezone

from inference.caching.selectors import told
from inference.gateway.frames import key_zones
from inference.gateway.records import STATS_KEY
from inference.models import ApiKey, ApiKeyMonth

MONTHS = 12  # shown


@dataclass(frozen=True)
class Budget:
    """`share`: of it that is used; above 1 where requests in flight passed it."""

    what: str
    used: float
    limit: float

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 1.0

    @property
    def is_used_up(self) -> bool:
        return self.used >= self.limit


@dataclass(frozen=True)
class Row:
    key: ApiKey
    month: ApiKeyMonth  # the running one; not saved where nothing was used
    budgets: tuple[Budget, ...]
    state: str
    badge: str


def month_name(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y-%m}"


def rows(now: datetime) -> list[Row]:
    months = {each.key_id: each for each in ApiKeyMonth.objects.filter(month=month_name(now))}
    return [_row(key, months.get(key.pk), now) for key in ApiKey.objects.all()]


def row(key: ApiKey, now: datetime) -> Row:
    return _row(key, ApiKeyMonth.objects.filter(key=key, month=month_name(now)).first(), now)


def _row(key: ApiKey, month: ApiKeyMonth | None, now: datetime) -> Row:
    month = month or ApiKeyMonth(key=key, month=month_name(now))
    budgets = []
    if key.tokens_per_month is not None:
        budgets.append(Budget("tokens", month.n_tokens, key.tokens_per_month))
    if key.usd_per_month is not None:
        budgets.append(Budget("USD", month.cost_usd, float(key.usd_per_month)))
    state, badge = "in use", "ok"
    if not key.enabled:
        state, badge = "disabled", ""
    elif key.is_expired(now):
        state, badge = "expired", "crit"
    elif any(each.is_used_up for each in budgets):
        state, badge = "budget used up", "warn"
    return Row(key, month, tuple(budgets), state, badge)


def past_months(key: ApiKey) -> list[ApiKeyMonth]:
    """The newest first, the running one among them once it was used."""
    return list(key.months.order_by("-month")[:MONTHS])


def near_hits(key: ApiKey) -> int | None:
    """Answers that the key's pictures shared since the gateway started; None: no gateway tells."""
    cache = told().cache
    if cache is None:
        return None
    begin = key_zones(key.pk)
    return sum(int(n) for zone, n in cache["near_by_zone"].items() if zone.startswith(begin))


@dataclass(frozen=True)
class Standing:
    """How the gateway works by now; `require` '': no gateway tells, and `why`."""

    require: str
    n_refused: int
    why: str = ""


def standing() -> Standing:
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        raw: Any = client.get(STATS_KEY)
    except redis.RedisError as error:
        return Standing("", 0, f"Valkey is away ({error}): the gateway goes on with the keys it knew last.")
    finally:
        client.close()
    access = json.loads(raw).get("access") if raw else None
    if access is None:
        return Standing("", 0, "No gateway runs.")
    return Standing(access["require"], access["n_refused"])


def gateway_state() -> dict[str, Any]:
    """For inference.gateway.api_keys: hashes, limits and what was used this month."""
    month = month_name(timezone.now())
    used = ApiKeyMonth.objects.filter(month=month).values_list("key_id", "n_tokens", "cost_usd")
    return {
        "keys": [_for_gateway(key) for key in ApiKey.objects.order_by("pk")],
        "month": month,
        "used": {str(key_id): [n_tokens, cost] for key_id, n_tokens, cost in used},
    }


def _for_gateway(key: ApiKey) -> dict[str, Any]:
    usd = key.usd_per_month
    return {
        "id": key.pk,
        "name": key.name,
        "digest": key.digest,
        "enabled": key.enabled,
        "expires_at": key.expires_at.timestamp() if key.expires_at else None,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "tokens_per_month": key.tokens_per_month,
        "usd_per_month": None if usd is None else float(usd),
        "models": list(key.allowed_models),
        "manages": key.manages,
        "frame_distance": key.frame_distance,
    }
