"""A gateway of a test's own: how it is started, asked, and told a profile."""

import json
import uuid
from typing import Any

import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.profile import CHANNEL, CONFIRM, KEY
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.product import wait_for

ROOM = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor."


def start(engine: Server, valkey: ValkeyServer, *arguments: str, port: int | None = None) -> Server:
    options = ("--valkey", valkey.url, "--engine", f"embedded={engine.url}", *arguments)
    return Server("inference.gateway", *options, port=port)


def hand_over(store: redis.Redis, active: dict[str, Any] | None, *others: dict[str, Any]) -> str:
    """As the console does it; returns the gateway's word."""
    state = {"active": active, "profiles": [*others, *([active] if active else [])]}
    serial = uuid.uuid4().hex
    store.set(KEY, json.dumps(state))
    wait_for(lambda: store.publish(CHANNEL, json.dumps({**state, "serial": serial})), "the gateway listens")
    found: Any = store.blpop([CONFIRM + serial], timeout=10)
    return str(found[1].decode())


def generate(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    body = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False, **fields}
    return call(server.url, "POST", "/api/generate", headers or {}, body)
