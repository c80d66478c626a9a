"""Answers that the gateway keeps: which, for how long, how many; before the real engine where it matters."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.cache import COMPRESS_FROM_BYTES, MAX_ENTRY_BYTES, Cache, Entry
from inference.gateway.cache_stats import MAX_MODELS, CacheStats
from inference.gateway.keys import repeatable
from inference.gateway.profile import NONE, Profile
from tests.inference.gateways import generate, hand_over, start
from tests.inference.serving import Server
from tests.inference.test_gateway import records
from tests.inference.test_transcripts import call
from tests.product import wait_for

ALL = Profile("all", cache=True, cache_ttl_s=60)
FIXED = {"temperature": 0}
URL = "http://engine"
GOOD = {
    "error": "",
    "status": 200,
    "engine": URL,
    "kind": "generate",
    "done_reason": "stop",
    "prompt_tokens": 3,
    "output_tokens": 5,
    "total_ms": 120.0,
}


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with start(engine, own_valkey) as server:
        # the engine is asked for its models first: without their digests nothing is kept
        wait_for(lambda: cached(generate(server, options=FIXED)) != "bypass", "the digests are known")
        yield server


def cached(answer: Any) -> str:
    return str(answer.headers["x-aicleaner-cache"])


def body(chunk: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


async def keep(
    cache: Cache, key: bytes, *chunks: bytes, now: float = 0.0, model: str = "m:latest", **changes: Any
) -> Entry | None:
    """Run an answer through a recording; what is found afterwards."""
    recording = cache.record(key, URL, model)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/x")]}
    recording.see(start | changes.pop("start", {}))
    for chunk in chunks:
        recording.see(body(chunk))
    cache.settle(recording, GOOD | changes, now)
    return await cache.find(key, ALL, now)


# --- rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ("/api/generate", {"options": {"temperature": 0}}, True),
        ("/api/chat", {"options": {"seed": 7}}, True),
        ("/api/chat", {"options": {"seed": -1}}, False),
        ("/api/chat", {"options": {"temperature": 0.1}}, False),
        ("/api/chat", {"options": [0]}, False),
        ("/api/chat", {"temperature": 0}, False),
        ("/v1/completions", {"temperature": 0.0}, True),
        ("/v1/completions", {"seed": 0}, True),
        ("/v1/completions", {}, False),
    ],
)
def test_what_can_be_repeated(path: str, values: dict[str, Any], expected: bool) -> None:
    assert repeatable(path, values) is expected


def test_what_is_eligible_follows_the_profile_and_the_request() -> None:
    cache, off = Cache(), Profile("off", cache=False)
    fixed, warm = {"prompt": "x", "options": FIXED}, {"prompt": "x"}
    assert cache.wants(NONE, "/api/generate", fixed, b"")
    assert not cache.wants(NONE, "/api/generate", warm, b"")
    assert cache.wants(ALL, "/api/generate", warm, b"")
    assert not cache.wants(off, "/api/generate", fixed, b"")
    assert not cache.wants(ALL, "/api/generate", warm, b"max-age=0, no-cache")
    assert not cache.wants(ALL, "/api/generate", {"keep_alive": 0}, b"")  # unloads the model
    assert not cache.wants(ALL, "/v1/responses", {"input": "x"}, b"")  # may refer to what was before
    assert cache.wants(NONE, "/v1/embeddings", {"input": "x"}, b"")
    assert not Cache(enabled=False).wants(ALL, "/api/generate", fixed, b"")


async def test_only_complete_successful_answers_are_kept() -> None:
    cache = Cache()
    bad: list[dict[str, Any]] = [
        {"error": "the stream ended before it was done"},
        {"status": 500},
        {"engine": "http://another"},
        {"done_reason": "load"},
        {"done_reason": ""},
        {"start": {"status": 404}},
        {"start": {"headers": [(b"content-encoding", b"gzip")]}},
    ]
    for number, change in enumerate(bad):
        assert await keep(cache, b"%d" % number, b"x", **change) is None
    assert await keep(cache, b"big", b"x" * MAX_ENTRY_BYTES, b"y") is None
    assert await keep(cache, b"empty") is None
    assert len(cache) == 0
    assert await keep(cache, b"embedding", b"x", kind="embed", done_reason="") is not None


@pytest.mark.parametrize("compress", [True, False])
async def test_an_answer_comes_back_in_its_chunks(compress: bool) -> None:
    cache = Cache(compress=compress)
    chunks = [b"a" * COMPRESS_FROM_BYTES, b"b", b"c" * 10]
    entry = await keep(cache, b"k", *chunks)
    assert entry is not None
    assert (entry.chunks(), entry.content_type, entry.took_ms) == (chunks, "text/x", 120.0)
    assert (cache.n_bytes < 1000) is compress


async def test_age_ends_an_entry_by_the_time_of_the_profile_that_asks() -> None:
    cache = Cache(ttl_s=30)
    await keep(cache, b"k", b"x", now=100.0)
    assert await cache.find(b"k", ALL, 159.9) is not None
    assert await cache.find(b"k", NONE, 130.0) is None  # the gateway's own, which is shorter
    assert cache.n_bytes == 0


async def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(max_entries=3)
    for key in (b"a", b"b", b"c"):
        await keep(cache, key, b"x" * 10)
    await cache.find(b"a", ALL, 0)
    await keep(cache, b"d", b"x" * 10)
    found = [key for key in (b"a", b"b", b"c", b"d") if await cache.find(key, ALL, 0)]
    assert found == [b"a", b"c", b"d"]
    assert cache.n_bytes == 30


async def test_answers_are_forgotten_by_model_or_all() -> None:
    cache = Cache()
    for key, model in ((b"a", "m:latest"), (b"b", "n:latest"), (b"c", "m:latest")):
        await keep(cache, key, b"x" * 10, model=model)
    assert cache.clear("m:latest") == (2, 20)
    assert [await cache.find(key, ALL, 0) is not None for key in (b"a", b"b", b"c")] == [False, True, False]
    assert cache.clear() == (1, 10)
    assert (len(cache), cache.n_bytes) == (0, 0)
    assert [each["bytes"] for each in cache.as_json(0)["models"].values()] == [0, 0]


async def test_what_is_too_old_for_everybody_is_dropped_unasked() -> None:
    cache = Cache()
    for number in range(4):
        await keep(cache, b"%d" % number, b"x", now=float(number))
    await keep(cache, b"0", b"x", now=4.0)  # anew
    cache.drop_old(3.0, 5.0)
    assert len(cache) == 2
    assert cache.as_json(5.0)["models"]["m:latest"]["oldest_s"] == 2.0
    cache.drop_old(3.0, 9.0)
    assert (len(cache), cache.as_json(9.0)["models"]["m:latest"]["oldest_s"]) == (0, None)


def test_hits_and_misses_are_counted_by_model_and_zone() -> None:
    stats = CacheStats()
    hit = {"cache": "hit", "cache_distance": None, "total_ms": 20, "prompt_tokens": 5, "output_tokens": None}
    stats.finished("m:latest", "hall", hit, 1020)
    stats.finished("m:latest", "hall", hit | {"cache_distance": 0, "total_ms": 2000}, 1020)
    stats.finished("m:latest", "", {"cache": "miss"}, 0)
    stats.finished("other", "", {"cache": "bypass"}, 0)
    told = stats.as_json(0)
    assert list(told["models"]) == ["m:latest"]
    of_m = told["models"]["m:latest"]
    assert (of_m["hits"], of_m["near_hits"], of_m["misses"]) == (2, 1, 1)
    assert (of_m["saved_s"], of_m["saved_prompt_tokens"], of_m["saved_output_tokens"]) == (1.0, 10, 0)
    assert told["near_by_zone"] == {"hall": 1}


def test_models_that_keep_nothing_are_forgotten_before_those_that_do() -> None:
    stats = CacheStats()
    for number in range(MAX_MODELS):
        stats.of(f"m{number}").kept[b"k"] = 0.0
    stats.of("m7").kept.clear()
    stats.of("new").n_hits += 1
    assert ("m7" in stats.by_model, len(stats.by_model)) == (False, MAX_MODELS)
    assert (len(stats.as_json(0)["models"]), stats.as_json(0)["models_not_shown"]) == (50, MAX_MODELS - 50)


async def test_who_asks_the_same_meanwhile_waits_for_the_answer() -> None:
    cache = Cache()
    recording = cache.record(b"k", URL, "m:latest")
    waiting = [asyncio.create_task(cache.find(b"k", ALL, 0)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    recording.see({"type": "http.response.start", "status": 200, "headers": []})
    recording.see(body(b"x"))
    cache.settle(recording, GOOD, asyncio.get_running_loop().time())
    assert [entry.chunks() for entry in await asyncio.gather(*waiting) if entry] == [[b"x"]] * 3


async def test_who_waited_for_an_answer_that_failed_asks_for_itself() -> None:
    cache = Cache()
    recording = cache.record(b"k", URL, "m:latest")
    waiting = [asyncio.create_task(cache.find(b"k", ALL, 0)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who leaves takes nobody along
    cache.settle(recording, GOOD | {"error": "client closed the connection"}, 0)
    assert await waiting[1] is None


# --- with the real engine ---------------------------------------------------------------------------------


def test_a_repeated_question_is_a_hit_and_says_so(gateway: Server, own_store: redis.Redis) -> None:
    first = generate(gateway, options={**FIXED, "top_k": 3})
    second = generate(gateway, options={**FIXED, "top_k": 3})
    assert (cached(first), cached(second)) == ("miss", "hit")
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert int(second.headers["age"]) >= 0
    assert cached(generate(gateway)) == "bypass"  # its answer may differ each time
    found = [each for each in records(own_store, 3) if each["cache"] != "bypass"]
    miss, hit = found[-2:]
    assert (miss["cache"], hit["cache"]) == ("miss", "hit")
    assert hit["output_tokens"] == miss["output_tokens"]
    assert hit["eval_ms"] is None
    assert hit["error"] == ""

    def counted() -> Any:
        stats = json.loads(own_store.get("aicleaner:gateway:stats") or b"{}")
        return stats if stats.get("cache_hits_total") else None

    stats = wait_for(counted, "the hit is counted")
    assert stats["cache_saved_s_total"] > 0
    assert stats["cache_misses_total"] >= 1


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_stream_is_replayed_in_its_shape(gateway: Server, path: str) -> None:
    request = {
        "model": "tiny-script",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "temperature": 0,
        "options": FIXED,
    }
    first, second = (call(gateway.url, "POST", path, {}, request) for _ in range(2))
    assert (cached(first), cached(second)) == ("miss", "hit")
    assert second.body == first.body
    assert second.kind == first.kind
    whole = call(gateway.url, "POST", path, {}, {**request, "stream": False})
    assert cached(whole) == "miss"
    assert whole.kind == "application/json"


def test_a_client_can_insist_on_a_new_answer(gateway: Server) -> None:
    generate(gateway, options=FIXED)
    assert cached(generate(gateway, options=FIXED)) == "hit"
    assert cached(generate(gateway, {"Cache-Control": "no-cache"}, options=FIXED)) == "bypass"


def test_a_profile_switches_it_on_for_all_and_off_for_all(gateway: Server, own_store: redis.Redis) -> None:
    hand_over(own_store, {"name": "keeps", "cache": True, "options": {"num_predict": 7}})
    assert [cached(generate(gateway)) for _ in range(2)] == ["miss", "hit"]
    other = {"name": "other", "cache": True, "options": {"num_predict": 8}}
    hand_over(own_store, other)
    assert cached(generate(gateway)) == "miss"  # other options, another answer
    hand_over(own_store, {"name": "forgets", "cache": False})
    assert cached(generate(gateway, options=FIXED)) == "bypass"


def test_time_ends_it(gateway: Server, own_store: redis.Redis) -> None:
    hand_over(own_store, {"name": "short", "cache": True, "cache_ttl_s": 0.0})
    assert [cached(generate(gateway)) for _ in range(2)] == ["miss", "miss"]


def test_errors_are_not_kept(gateway: Server) -> None:
    for _ in range(2):
        assert cached(generate(gateway, options={**FIXED, "num_ctx": "x"})) == "miss"
    broken: dict[str, Any] = {
        "model": "tiny-repeat",
        "options": {**FIXED, "repeat_penalty": 1.0, "num_predict": 200},
    }
    assert [cached(generate(gateway, **broken, stream=True)) for _ in range(2)] == ["miss", "miss"]
    assert cached(generate(gateway, model="nope", options=FIXED)) == "bypass"


def test_equal_requests_at_a_time_ask_the_engine_once(gateway: Server, own_store: redis.Redis) -> None:
    answers: list[Any] = []
    fields: dict[str, Any] = {"model": "tiny-repeat", "options": {**FIXED, "num_predict": 20, "top_k": 9}}
    threads = [threading.Thread(target=lambda: answers.append(generate(gateway, **fields))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(map(cached, answers)) == ["hit"] * 5 + ["miss"]
    assert len({each.body for each in answers}) == 1


def test_an_answer_whose_client_left_is_not_kept(
    engine: Server,
    own_valkey: ValkeyServer,
    own_store: redis.Redis,
    tmp_path: Any,
) -> None:
    from tests.inference import chain_model

    words = [f"word{number} ".encode() for number in range(50)]
    model = chain_model.write_chain(tmp_path / "long.gguf", words, loop=True)
    seed = ("--models", str(tmp_path / "models"), "--seed-model", f"tiny-long={model}")
    with Server("inference.engine", *seed) as own_engine, start(own_engine, own_valkey) as gateway:
        request = {"model": "tiny-long", "prompt": "x", "options": {**FIXED, "num_predict": 3000}}
        probe: dict[str, Any] = {**request, "options": {**FIXED, "num_predict": 1}}
        wait_for(lambda: cached(generate(gateway, **probe)) != "bypass", "the digests are known")
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        connection.request("POST", "/api/generate", json.dumps(request))
        response = connection.getresponse()
        assert response.headers["x-aicleaner-cache"] == "miss"
        response.readline()
        response.close()
        connection.close()
        wait_for(
            lambda: any(each["error"] == "client closed the connection" for each in records(own_store, 1)),
            "the gateway has seen it leave",
        )
        answer = call(gateway.url, "POST", "/api/generate", {}, request)
        assert cached(answer) == "miss"
        assert json.loads(answer.body.strip().split(b"\n")[-1])["done"]


def test_a_model_made_anew_under_its_name_gives_new_answers(gateway: Server) -> None:
    copy = {"source": "tiny-script", "destination": "tiny-copy"}
    call(gateway.url, "POST", "/api/copy", {}, copy)
    wait_for(
        lambda: cached(generate(gateway, model="tiny-copy", options=FIXED)) == "hit", "the copy is known"
    )
    call(gateway.url, "POST", "/api/copy", {}, {"source": "tiny-think", "destination": "tiny-copy"})
    assert cached(generate(gateway, model="tiny-copy", options=FIXED)) != "hit"
    call(gateway.url, "DELETE", "/api/delete", {}, {"model": "tiny-copy"})
