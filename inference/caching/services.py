"""Writes about the cache: distances of zones, and orders to forget."""

import json
from datetime import datetime

import redis
from django.contrib.auth.models import User
from django.db import transaction

from inference import events
from inference.caching import selectors
from inference.gateway.pushed import CACHE_ORDERS, ZONES
from inference.models import CacheZone
from inference.pushing import Delivery, Told, log_delivery, order, push


def set_zone(
    name: str, distance: int, *, who: str, user: User | None, now: datetime, told: Told = log_delivery
) -> CacheZone:
    """Frames of the zone share an answer from the next request on, when they are no more than `distance` bits apart."""
    with transaction.atomic():
        zone, _ = CacheZone.objects.update_or_create(
            name=name, defaults={"distance": distance, "who": who, "user": user, "at": now}
        )
        events.note("gateway", f"Frames of zone {name} share answers up to a distance of {distance} ({who})")
        transaction.on_commit(lambda: told(push(ZONES, selectors.gateway_state)))
    return zone


def remove_zone(zone: CacheZone, *, who: str, told: Told = log_delivery) -> None:
    """Its pictures are not compared any more."""
    with transaction.atomic():
        zone.delete()
        events.note("gateway", f"Frames of zone {zone.name} share no answers any more ({who})")
        transaction.on_commit(lambda: told(push(ZONES, selectors.gateway_state)))


def clear(model: str, *, who: str) -> Delivery:
    """Have the gateway forget the answers of `model`, or all by an empty name. Nothing is done later: what no gateway
    confirms has to be asked again."""
    whose = f"of {model}" if model else "of all models"
    try:
        words = order(CACHE_ORDERS, {"clear": model})
    except redis.RedisError as error:
        return Delivery(False, f"Nothing was cleared: Valkey is away ({error}). Try again when it is back.")
    if not words:
        return Delivery(False, "No gateway runs: there is nothing to clear.")
    try:
        n = sum(int(json.loads(word)["entries"]) for word in words)
    except (ValueError, TypeError, KeyError):
        return Delivery(False, f"Not confirmed, so the answers may still be kept: {words[0]}. Try again.")
    events.note("gateway", f"The cache forgot {n} answer{'' if n == 1 else 's'} {whose} ({who})")
    return Delivery(True, f"The gateway forgot {n} answer{'' if n == 1 else 's'} {whose}.")
