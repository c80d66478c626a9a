"""Questions about the cache: what the gateway told last, and where its settings come from."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from django.conf import settings

from inference.gateway.records import STATS_KEY
from inference.models import CacheZone

TOLD_WITHIN_S = 5
COUNTS = (
    *("n_entries", "n_bytes", "n_hits", "n_near", "n_misses"),
    *("saved_s", "saved_output_tokens", "saved_prompt_tokens"),
)


@dataclass(frozen=True)
class Told:
    """`cache` is what inference.gateway.cache says of itself; None with the reason why nobody knows."""

    cache: dict[str, Any] | None
    why: str = ""


@dataclass(frozen=True)
class Row:
    """Of a model, or of all; counts since the gateway started."""

    model: str
    n_entries: int
    n_bytes: int
    n_hits: int
    n_near: int
    n_misses: int
    saved_s: float
    saved_output_tokens: int
    saved_prompt_tokens: int
    oldest_at: datetime | None

    @property
    def hit_share(self) -> float | None:
        n = self.n_hits + self.n_misses
        return self.n_hits / n if n else None

    @property
    def saved_ms(self) -> float:
        return self.saved_s * 1000


@dataclass(frozen=True)
class Setting:
    name: str
    value: str
    source: str


def gateway_state() -> dict[str, Any]:
    """For inference.gateway.frames."""
    return {"zones": dict(CacheZone.objects.values_list("name", "distance"))}


def told() -> Told:
    """Of the last second."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        raw: Any = client.get(STATS_KEY)
    except redis.RedisError as error:
        return Told(None, f"Valkey is away ({error}): what the gateway keeps is not known.")
    finally:
        client.close()
    cache = json.loads(raw).get("cache") if raw else None
    if cache is None:
        return Told(None, "No gateway runs: nothing is kept.")
    return Told(cache)


def rows(cache: dict[str, Any], now: datetime) -> list[Row]:
    """Models by name."""
    return [_row(name, each, now) for name, each in sorted(cache["models"].items())]


def _row(model: str, told: dict[str, Any], now: datetime) -> Row:
    oldest_s = told["oldest_s"]
    return Row(
        model,
        told["entries"],
        told["bytes"],
        told["hits"],
        told["near_hits"],
        told["misses"],
        told["saved_s"],
        told["saved_output_tokens"],
        told["saved_prompt_tokens"],
        None if oldest_s is None else now - timedelta(seconds=oldest_s),
    )


def total(every: list[Row]) -> Row:
    sums: dict[str, Any] = {name: sum(getattr(each, name) for each in every) for name in COUNTS}
    oldest = min((each.oldest_at for each in every if each.oldest_at), default=None)
    return Row(model="", oldest_at=oldest, **sums)


def since(cache: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(cache["started_at"], UTC)


def in_force(cache: dict[str, Any]) -> list[Setting]:
    """As the gateway works by now, with the place that says so."""
    config, profile = settings.CONFIG.caching, cache["profile"]
    own_minutes = cache["ttl_s"] / 60

    def source(key: str, *, same: bool) -> str:
        if not same:
            return f"the gateway's own start; config.yaml says otherwise of caching.{key}"
        return (
            f"config.yaml, caching.{key}" if key in config.model_fields_set else f"default of caching.{key}"
        )

    which = {None: "repeatable answers", True: "every answer", False: "nothing"}[profile["cache"]]
    by_profile = f"profile {profile['name']}"
    ttl = Setting(
        "Kept for",
        _minutes(own_minutes),
        source("cache_ttl_minutes", same=own_minutes == config.cache_ttl_minutes),
    )
    if profile["ttl_s"] is not None:
        ttl = Setting("Kept for", _minutes(profile["ttl_s"] / 60), by_profile)
    return [
        Setting(
            "Cache",
            "on" if cache["enabled"] else "off",
            source("inference_cache_enabled", same=cache["enabled"] == config.inference_cache_enabled),
        ),
        Setting(
            "Takes",
            which if cache["enabled"] else "nothing",
            by_profile if profile["cache"] is not None else "default: no active profile says it",
        ),
        ttl,
        Setting(
            "Answers",
            f"{cache['max_entries']:,} at most",
            source("max_cache_entries", same=cache["max_entries"] == config.max_cache_entries),
        ),
        Setting("Memory", f"{cache['max_bytes'] / 2**20:g} MiB at most", "fixed"),
        Setting(
            "Compression",
            "zstd" if cache["compress"] else "none",
            source("cache_compression", same=cache["compress"] == config.cache_compression),
        ),
    ]


def _minutes(minutes: float) -> str:
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


@dataclass(frozen=True)
class ZoneRow:
    """`is_late`: the gateway works by another distance still; `n_near`: answers that were shared there, None: unknown."""

    zone: CacheZone
    is_late: bool
    n_near: int | None


def zones(cache: dict[str, Any] | None, now: datetime) -> list[ZoneRow]:
    every = CacheZone.objects.all()
    if cache is None:
        return [ZoneRow(each, is_late=False, n_near=None) for each in every]
    used, near = cache["zones"], cache["near_by_zone"]
    return [
        ZoneRow(
            each,
            # It tells once a second only.
            is_late=used.get(each.name) != each.distance and now - each.at > timedelta(seconds=TOLD_WITHIN_S),
            n_near=near.get(each.name, 0),
        )
        for each in every
    ]
