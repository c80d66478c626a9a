"""A gateway of a test's own: how it is started, asked, and told a profile."""

import json
import uuid
from typing import Any

import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.pushed import ALIASES, ENGINES, PROFILES, Way
from inference.gateway.records import STATS_KEY, STREAM
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.product import wait_for

ROOM = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor."


def start(engine: Server, valkey: ValkeyServer, *arguments: str, port: int | None = None) -> Server:
    options = ("--valkey", valkey.url, "--engine", f"embedded={engine.url}", *arguments)
    return Server("inference.gateway", *options, port=port)


def hand_over(store: redis.Redis, active: dict[str, Any] | None, *others: dict[str, Any]) -> str:
    """As the console does it; returns the gateway's word."""
    return push(store, PROFILES, {"active": active, "profiles": [*others, *([active] if active else [])]})


def hand_over_aliases(store: redis.Redis, **targets: str) -> str:
    return push(store, ALIASES, {"aliases": targets})


def hand_over_engines(store: redis.Redis, *engines: dict[str, Any]) -> str:
    return push(store, ENGINES, {"engines": list(engines)})


def hand_over_fallback(store: redis.Redis, name: str, cloud: str, model: str, **when: Any) -> str:
    """And nothing else: `name` has no other target."""
    return push(
        store, ALIASES, {"aliases": {}, "fallbacks": {name: {"cloud": cloud, "model": model, **when}}}
    )


def push(store: redis.Redis, way: Way, state: dict[str, Any]) -> str:
    serial = uuid.uuid4().hex
    store.set(way.key, json.dumps(state))
    message = json.dumps({**state, "serial": serial})
    wait_for(lambda: store.publish(way.channel, message), "the gateway listens")
    found: Any = store.blpop([way.confirmed + serial], timeout=10)
    return str(found[1].decode())


def health(store: redis.Redis, name: str) -> dict[str, Any]:
    """What the gateway told of an engine last; {} before it has told anything."""
    raw: Any = store.get(STATS_KEY)
    told = json.loads(raw)["engines"] if raw else []
    return next((each for each in told if each["name"] == name), {})


def wait_until_up(store: redis.Redis, name: str, *, up: bool = True) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        told = health(store, name)
        return told if told.get("up") is up and (told.get("n_models") is not None or not up) else None

    return wait_for(found, f"{name} is {'up' if up else 'down'}")


def generate(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    body = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False, **fields}
    return call(server.url, "POST", "/api/generate", headers or {}, body)


def records(store: redis.Redis, n: int) -> list[dict[str, Any]]:
    """The first `n` finished requests, once they are there."""

    def found() -> list[Any]:
        entries: Any = store.xrange(STREAM)
        return entries if len(entries) >= n else []

    return [json.loads(fields[b"r"]) for _, fields in wait_for(found, "the records are there")[:n]]


def record_of(store: redis.Redis, answer: Answer) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        entries: Any = store.xrange(STREAM)
        every = (json.loads(fields[b"r"]) for _, fields in entries)
        return next(
            (each for each in every if each["request_id"] == answer.headers["x-aicleaner-request-id"]), None
        )

    return wait_for(found, "the record is there")


def wait_until_listed(server: Server) -> None:
    """Until the gateway knows the engine's models: it asks by itself, and keeps no answer before."""
    options = {"temperature": 0, "num_predict": 1}
    wait_for(
        lambda: generate(server, options=options).headers["x-aicleaner-cache"] != "bypass",
        "the models are known",
    )


def wait_until_told(store: redis.Redis, name: str, value: Any) -> dict[str, Any]:
    """The first figures of the gateway, told each second, in which `name` is `value`."""

    def told() -> Any:
        raw: Any = store.get(STATS_KEY)
        stats = json.loads(raw) if raw else {}
        return stats if stats.get(name) == value else None

    return dict(wait_for(told, f"{name} is {value}"))
