"""The way of the console's state to the gateway: a key that it reads at its start, and a channel that tells of each change.
An order goes by the channel alone: it is done now or not at all.

inference/gateway/pushed.py is the other end."""

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

from inference.gateway.pushed import Way

CONFIRM_WITHIN_S = 3.0
log = logging.getLogger(__name__)

State = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Delivery:
    """Whether the gateway has put a change to use; `text` for the person who made it."""

    ok: bool
    text: str


Told = Callable[[Delivery], object]


def log_delivery(delivery: Delivery) -> None:
    log.log(logging.INFO if delivery.ok else logging.WARNING, "%s", delivery.text)


def log_failure(delivery: Delivery) -> None:
    """For a state that changes all the time."""
    if not delivery.ok:
        log.warning("%s", delivery.text)


def push(way: Way, state_now: State) -> Delivery:
    """Hand the present state to every gateway and wait until each has put it to use. Never raises for its absence."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=5, socket_connect_timeout=2)
    try:
        # Who comes last has read last: nobody overwrites a newer state by an older one.
        with client.lock(f"aicleaner:lock:{way.name}", timeout=10, blocking_timeout=5):
            state = state_now()
            serial = uuid.uuid4().hex
            pipeline = client.pipeline(transaction=True)
            pipeline.set(way.key, json.dumps(state))
            pipeline.publish(way.channel, json.dumps({**state, "serial": serial}))
            n_gateways = int(pipeline.execute()[1])
        words = _words(client, way, serial, n_gateways)
    except redis.RedisError as error:
        return Delivery(
            False, f"Saved, but Valkey is away ({error}): the gateway follows as soon as it is back."
        )
    finally:
        client.close()
    if not words:
        return Delivery(False, "Saved, but no gateway runs: it is used as soon as one starts.")
    wrong = [word for word in words if word != "ok"]
    if wrong:
        return Delivery(False, f"Saved, but not confirmed: {wrong[0]}.")
    return Delivery(True, "The gateway uses it from the next request on.")


def order(way: Way, what: dict[str, Any]) -> list[str]:
    """Have every gateway do something now, and hear what each says; none: no gateway runs. Raises RedisError."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=5, socket_connect_timeout=2)
    try:
        serial = uuid.uuid4().hex
        n_gateways: Any = client.publish(way.channel, json.dumps({**what, "serial": serial}))
        return _words(client, way, serial, int(n_gateways))
    finally:
        client.close()


def _words(client: "redis.Redis", way: Way, serial: str, n_gateways: int) -> list[str]:
    return [_confirmation(client, way.confirmed + serial) for _ in range(n_gateways)]


def _confirmation(client: "redis.Redis", key: str) -> str:
    found: Any = client.blpop([key], timeout=CONFIRM_WITHIN_S)
    return "the gateway does not answer" if found is None else str(found[1].decode())


def push_if_stale(way: Way, state_now: State, told: Told = log_delivery) -> bool:
    """Hand the state over when Valkey holds another one, as after an absence. Whether it did. Raises RedisError."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=5, socket_connect_timeout=2)
    try:
        raw: Any = client.get(way.key)
    finally:
        client.close()
    if raw is not None and json.loads(raw) == state_now():
        return False
    told(push(way, state_now))
    return True
