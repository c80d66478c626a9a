"""Writes of API keys. Each change is pushed to the gateway, and its word goes to `told`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from inference import events
from inference.api_keys import selectors
from inference.api_keys.internal import secret
from inference.gateway.pushed import API_KEYS
from inference.gateway.tokens import PREFIX, SHOWN, digest_of, new_token
from inference.models import ApiKey, ApiKeyMonth
from inference.models.api_key import LIMITS
from inference.pushing import Told, log_delivery, push


@dataclass(frozen=True)
class Use:
    """Of one request. `cost_usd` None: nobody knows its price."""

    key_id: int
    at: datetime
    failed: bool
    n_tokens: int
    cost_usd: float | None


def create_key(key: ApiKey, *, who: str, user: User | None, now: datetime, told: Told = log_delivery) -> str:
    """Save a new key; returns its token, which nobody can read again."""
    token = _give_token(key)
    key.who, key.user, key.created_at = who, user, now
    with transaction.atomic():
        key.save(force_insert=True)
        _changed(f"API key {key.name} was made", who, told)
    return token


def change_key(key: ApiKey, *, who: str, told: Told = log_delivery) -> None:
    """Save its limits as they are set on it."""
    with transaction.atomic():
        key.save(update_fields=LIMITS)
        _changed(f"The limits of API key {key.name} were changed", who, told)


def enable_key(key: ApiKey, enabled: bool, *, who: str, told: Told = log_delivery) -> None:
    key.enabled = enabled
    with transaction.atomic():
        key.save(update_fields=["enabled"])
        _changed(f"API key {key.name} was {'enabled' if enabled else 'disabled'}", who, told)


def rotate_key(key: ApiKey, *, who: str, now: datetime, told: Told = log_delivery) -> str:
    """Another token for the same key; the one before is refused from the next request on. Returns the new one."""
    token = _give_token(key)
    key.rotated_at = now
    with transaction.atomic():
        key.save(update_fields=["prefix", "digest", "rotated_at"])
        _changed(f"API key {key.name} has a new token", who, told)
    return token


def delete_key(key: ApiKey, *, who: str, told: Told = log_delivery) -> None:
    """Records of its requests keep its name."""
    with transaction.atomic():
        key.delete()
        _changed(f"API key {key.name} was deleted", who, told)


def count_uses(uses: Iterable[Use]) -> None:
    """Add requests that are stored in the same transaction. Those of a deleted key count nowhere."""
    by_month: dict[tuple[int, str], list[Use]] = defaultdict(list)
    for use in uses:
        by_month[use.key_id, selectors.month_name(use.at)].append(use)
    known = set(ApiKey.objects.filter(pk__in={key_id for key_id, _ in by_month}).values_list("pk", flat=True))
    for (key_id, month), found in by_month.items():
        if key_id not in known:
            continue
        row, _ = ApiKeyMonth.objects.get_or_create(key_id=key_id, month=month)
        costs = [use.cost_usd for use in found if use.cost_usd is not None]
        ApiKeyMonth.objects.filter(pk=row.pk).update(
            n_requests=F("n_requests") + len(found),
            n_errors=F("n_errors") + sum(use.failed for use in found),
            n_tokens=F("n_tokens") + sum(use.n_tokens for use in found),
            cost_usd=F("cost_usd") + sum(costs),
            n_costed=F("n_costed") + len(costs),
        )
        last = max(use.at for use in found)
        older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=last)
        ApiKey.objects.filter(older, pk=key_id).update(last_used_at=last)


def _give_token(key: ApiKey) -> str:
    token = new_token()
    key.prefix = token[: len(PREFIX) + SHOWN]
    key.digest = digest_of(token.encode(), secret()).hex()
    return token


def _changed(what: str, who: str, told: Told) -> None:
    events.note("gateway", f"{what} ({who})")
    transaction.on_commit(lambda: told(push(API_KEYS, selectors.gateway_state)))
