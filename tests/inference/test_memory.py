"""The gateway's part that unloads, on the real engine and a real Valkey; the test moves its clock."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.engines import Engine, Engines
from inference.gateway.eviction import Rules
from inference.gateway.kept import KEPT_KEY, STATE_KEY, kept_field
from inference.gateway.memory import NEWS_STREAM, SAMPLE_KEY, Memory, is_here
from inference.gateway.profile import Gate, Profile, Profiles
from inference.gateway.sessions import Sessions
from inference.gateway.slots import Slots
from tests.inference.serving import Server
from tests.inference.test_transcripts import call
from tests.product import wait_for

A, B = "tiny-script:latest", "tiny-think:latest"


@asynccontextmanager
async def a_memory(server: Server, valkey: ValkeyServer, rules: Rules) -> AsyncIterator[Memory]:
    client = redis.asyncio.from_url(valkey.url)
    profiles = Profiles(valkey.url, on_change=lambda: None)
    sessions = Sessions(60)
    try:
        engines = Engines([Engine("embedded", server.url)], sessions, {})
        await engines.probe()
        yield Memory(engines, Gate(8), profiles, client, rules, Slots())
    finally:
        await sessions.close()
    await profiles.client.aclose()
    await client.aclose()


def play(
    server: Server, valkey: ValkeyServer, rules: Rules, story: Callable[[Memory], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with a_memory(server, valkey, rules) as memory:
            await story(memory)

    for name in loaded(server):
        post(server, {"model": name, "keep_alive": 0})
    asyncio.run(run())


def post(server: Server, body: dict[str, Any]) -> None:
    assert call(server.url, "POST", "/api/generate", {}, body).status == 200


def loaded(server: Server) -> set[str]:
    return {each["name"] for each in json.loads(call(server.url, "GET", "/api/ps", {}, None).body)["models"]}


def news(store: redis.Redis) -> list[dict[str, Any]]:
    entries: Any = store.xrange(NEWS_STREAM)
    return [json.loads(fields[b"n"]) for _, fields in entries]


def unloads(store: redis.Redis) -> list[tuple[str, str, str]]:
    return [(each["who"], each["model"], each["reason"]) for each in news(store) if each["what"] == "unload"]


def state(store: redis.Redis) -> Any:
    raw: Any = store.get(STATE_KEY)
    return json.loads(raw)


def test_an_idle_model_is_unloaded_in_time_and_one_that_is_used_stays(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    async def story(memory: Memory) -> None:
        post(engine, {"model": A})
        post(engine, {"model": B})
        await memory.look(1000.0, 5000.0)
        memory.used(memory.engines.current.url, B, 1500.0)
        await memory.look(1599.0, 5599.0)
        assert loaded(engine) == {A, B}
        await memory.look(1600.0, 5600.0)
        assert loaded(engine) == {B}
        await memory.look(1601.0, 5601.0)

    play(engine, own_valkey, Rules(idle_s=600), story)
    assert unloads(own_store) == [("automatic", A, "idle for 10 min, and unload_timeout_minutes is 10")]
    assert [each["name"] for each in state(own_store)["loaded"]] == [B]
    assert [each["what"] for each in news(own_store)] == ["changed", "unload", "changed"]


def test_use_that_bypasses_the_gateway_counts(engine: Server, own_valkey: ValkeyServer) -> None:
    async def story(memory: Memory) -> None:
        post(engine, {"model": A})
        await memory.look(1000.0, 5000.0)
        post(engine, {"model": A, "prompt": "hi", "stream": False})
        await memory.look(1500.0, 5500.0)
        await memory.look(1700.0, 5700.0)
        assert loaded(engine) == {A}

    play(engine, own_valkey, Rules(idle_s=600), story)


def test_what_a_person_keeps_stays_until_its_time_and_the_mark_goes_with_the_model(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    async def story(memory: Memory) -> None:
        post(engine, {"model": A, "keep_alive": -1})
        own_store.hset(KEPT_KEY, kept_field(engine.url, A), "9000")
        await memory.look(1000.0, 5000.0)
        await memory.look(4999.0, 8999.0)
        assert loaded(engine) == {A}
        assert state(own_store)["loaded"][0]["kept"] is True
        await memory.look(5000.0, 9000.0)
        assert loaded(engine) == set()
        await memory.look(5001.0, 9001.0)

    play(engine, own_valkey, Rules(idle_s=600), story)
    assert own_store.hgetall(KEPT_KEY) == {}


def test_beyond_the_cache_size_a_model_with_a_request_in_flight_is_spared(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    async def story(memory: Memory) -> None:
        post(engine, {"model": A})
        await memory.look(1000.0, 5000.0)
        post(engine, {"model": B})
        memory.gate.running["tiny-script"] = 1  # the older one, but busy
        await memory.look(1001.0, 5001.0)
        assert loaded(engine) == {A, B}  # the other has just been loaded
        await memory.look(1002.0, 5002.0)
        assert loaded(engine) == {A}

    play(engine, own_valkey, Rules(max_loaded=1), story)
    assert unloads(own_store) == [("automatic", B, "2 models were loaded, and model_cache_size is 1")]


def test_the_end_of_a_keep_alive_is_told_and_an_unload_that_was_asked_for_is_not(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    async def story(memory: Memory) -> None:
        post(engine, {"model": A, "keep_alive": "1s"})
        post(engine, {"model": B})
        await memory.look(1000.0, 5000.0)
        wait_for(lambda: A not in loaded(engine), "its time is over")
        post(engine, {"model": B, "keep_alive": 0})
        await memory.look(1002.0, 4e9)  # by that clock both are over time
        assert ("engine", A, "its keep-alive was over") in unloads(own_store)

    play(engine, own_valkey, Rules(), story)

    own_store.delete(NEWS_STREAM)

    async def asked(memory: Memory) -> None:
        post(engine, {"model": B})
        await memory.look(1000.0, 5000.0)
        post(engine, {"model": B, "keep_alive": 0})
        await memory.look(1001.0, 5001.0)

    play(engine, own_valkey, Rules(), asked)
    assert unloads(own_store) == []


def test_limits_of_config_hold_without_a_profile(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    async def story(memory: Memory) -> None:
        none: dict[str, Any] = {"name": "none", "memory_bytes": 1}
        memory.profiles.take({"active": None, "profiles": [], "none": none})
        assert memory.profiles.choose("none") == Profile(**none)
        post(engine, {"model": A})
        await memory.look(1000.0, 5000.0)
        post(engine, {"model": B})
        await memory.look(1001.0, 5001.0)
        assert loaded(engine) == {B}

    play(engine, own_valkey, Rules(), story)
    assert "memory_limit_mb allows 1 B" in unloads(own_store)[0][2]


def test_what_is_known_of_gpus_is_the_collectors_word(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    values = {"gpu_memory_used_bytes{gpu=0}": 95e9, "gpu_memory_total_bytes{gpu=0}": 100e9}

    async def story(memory: Memory) -> None:
        await memory.look(1000.0, 5000.0)
        assert state(own_store)["vram"] is None
        assert "does not run" in state(own_store)["vram_note"]
        own_store.set(SAMPLE_KEY, json.dumps({"at": 5000.0, "v": values}))
        await memory.look(1001.0, 5001.0)
        assert state(own_store)["vram"]["level"] == "high"
        await memory.look(1011.0, 5011.0)  # an old sample says nothing of now
        assert state(own_store)["vram"] is None
        lost = {**values, "gpu_memory_used_bytes{gpu=0}": None}
        own_store.set(SAMPLE_KEY, json.dumps({"at": 5011.0, "v": lost, "state": {"gpu_reason": "gone"}}))
        await memory.look(1012.0, 5012.0)
        assert (state(own_store)["vram"], state(own_store)["vram_note"]) == (None, "gone")
        assert state(own_store)["memory"]["total_bytes"] > 0

    play(engine, own_valkey, Rules(), story)


def test_without_valkey_the_limits_hold_and_the_news_wait(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    async def story(memory: Memory) -> None:
        post(engine, {"model": A})
        own_store.hset(KEPT_KEY, kept_field(engine.url, A), "inf")
        await memory.look(1000.0, 5000.0)
        post(engine, {"model": B})
        valkey = memory.client
        memory.client = redis.asyncio.from_url("redis://127.0.0.1:1")
        with pytest.raises(redis.ConnectionError):  # the loop logs it and goes on
            await memory.look(1001.0, 5001.0)
        with pytest.raises(redis.ConnectionError):
            await memory.look(1002.0, 5002.0)
        assert loaded(engine) == {A}  # the one that is kept, as was known before
        await memory.client.aclose()
        memory.client = valkey
        await memory.look(1003.0, 5003.0)

    play(engine, own_valkey, Rules(max_loaded=1), story)
    assert unloads(own_store) == [("automatic", B, "2 models were loaded, and model_cache_size is 1")]


def test_which_engines_are_on_this_machine() -> None:
    assert is_here("http://127.0.0.1:11434")
    assert is_here("http://localhost:1")
    assert is_here("http://[::1]:1")
    assert not is_here("http://192.0.2.7:11434")
    assert not is_here("http://ollama.example:11434")
