"""What the gateway's cache costs and saves, and whether each of many streams leaves its record."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import redis

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.pushed import ZONES
from inference.gateway.records import STATS_KEY, STREAM
from tests.bench import Row, cpu_s, quantile
from tests.bench.asgi import Asgi
from tests.inference.gateways import push
from tests.inference.rooms import as_seen, encoded, room
from tests.inference.serving import Server
from tests.product import wait_for

N_EQUAL, N_CHEAP, N_FRAMES, N_MIXED, AT_A_TIME = 50, 1000, 100, 1000, 100
LEAVES_EVERY = 10  # of the mixed streams, one leaves amid its answer
# An engine that streams twenty pieces over 0.2 s, in both APIs, and tells how many requests it had.
ENGINE = """
import asyncio, json
n = 0
async def app(scope, receive, send):
    global n
    if scope["type"] != "http": return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"): break
    values = json.loads(body or b"{}")
    openai = scope["path"].startswith("/v1/")
    stream = bool(values.get("stream", not openai))
    if scope["method"] == "GET":
        models = [{"name": "m:latest", "digest": "d", "size": 1}]
        parts = [json.dumps({"version": "1", "models": models, "n": n}).encode()]
        stream = False
    else:
        n += 1
        end = {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 20,
               "total_duration": 5, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 1}
        if openai:
            choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            parts = [b"data: " + json.dumps({"choices": [choice]}).encode() + b"\\n\\n"] * 20
            parts.append(b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\\n\\n')
            parts.append(b"data: [DONE]\\n\\n")
        else:
            text = {"message": {"role": "assistant", "content": "word "}} if "messages" in values else {"response": "word "}
            parts = [json.dumps({"model": "m", **text, "done": False}).encode() + b"\\n"] * 20
            parts.append(json.dumps(end).encode() + b"\\n")
        if not stream:
            whole = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]} if openai else {**end, "response": "x"}
            parts = [json.dumps(whole).encode()]
    kind = b"application/json" if not stream else b"text/event-stream" if openai else b"application/x-ndjson"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for part in parts:
        if stream: await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""
FIXED = {"temperature": 0}


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    body: dict[str, Any],
    headers: dict[str, str] | None = None,
    leave: bool = False,
) -> tuple[float, str, str]:
    """Seconds, what the cache had to do with it, and the id of the request."""
    started = time.perf_counter()
    async with session.post(url, json=body, headers=headers) as answer:
        found = answer.headers["x-aicleaner-cache"], answer.headers["x-aicleaner-request-id"]
        if leave:
            await answer.content.readany()
            answer.close()
        else:
            await answer.read()
    return time.perf_counter() - started, *found


async def ask_all(asked: list[tuple[Any, ...]], at_a_time: int) -> list[tuple[float, str, str]]:
    """Each `asked`: the arguments of `ask` after the session."""
    gate = asyncio.Semaphore(at_a_time)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(arguments: tuple[Any, ...]) -> tuple[float, str, str]:
            async with gate:
                return await ask(session, *arguments)

        return await asyncio.gather(*(one(each) for each in asked))


def generate(url: str, prompt: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    body = {"model": "m", "prompt": prompt, "stream": False, "options": FIXED, **fields}
    return f"{url}/api/generate", body


def costs(process: psutil.Process, what: str, asked: list[tuple[Any, ...]], cache: str) -> Row:
    before = cpu_s(process)
    found = asyncio.run(ask_all(asked, 16))
    spent = (cpu_s(process) - before) / len(found) * 1000
    n = sum(how == cache for _, how, _ in found)
    median = quantile([took for took, _, _ in found], 0.5) * 1000
    note = f"median {median:.2f} ms; {n} of {len(found)} were a {cache}"
    return Row(what, spent, "CPU-ms", note=note)


def mixed(url: str, number: int) -> tuple[Any, ...]:
    """Streams of three APIs: half of them eligible for the cache, some of those equal; every tenth leaves."""
    leave = number % LEAVES_EVERY == 7
    options = FIXED if number % 2 else {}
    prompt = f"{number % 40 if number % 4 == 1 else number}"
    message = {"role": "user", "content": prompt}
    path, fields = (
        ("/api/generate", {"prompt": prompt, "options": options}),
        ("/api/chat", {"messages": [message], "options": options}),
        ("/v1/chat/completions", {"messages": [message], **options}),
    )[number % 3]
    return url + path, {"model": "m", "stream": True, **fields}, None, leave


def recorded(store: redis.Redis) -> set[str]:
    entries: Any = store.xrange(STREAM)
    return {json.loads(fields[b"r"])["request_id"] for _, fields in entries}


def run(folder: Path) -> Iterator[Row]:
    engine = Asgi(folder, "streams", ENGINE)
    try:
        with (
            ValkeyServer(folder / "s.sock") as valkey,
            Server(
                "inference.gateway",
                "--valkey",
                valkey.url,
                "--engine",
                f"ollama={engine.url}",
                "--max-queue",
                "5000",
            ) as gateway,
            redis.from_url(valkey.url) as store,
        ):
            wait_for(
                lambda: asyncio.run(ask_all([generate(gateway.url, "known?")], 1))[0][1] != "bypass", "models"
            )
            yield from rows(gateway, engine, store)
    finally:
        engine.process.terminate()


def rows(gateway: Server, engine: Asgi, store: redis.Redis) -> Iterator[Row]:
    before = n_asked(engine)
    found = asyncio.run(ask_all([generate(gateway.url, "equal", stream=True)] * N_EQUAL, N_EQUAL))
    slowest = max(took for took, _, _ in found) * 1000
    yield Row(
        f"requests of the engine for {N_EQUAL} equal streams at a time",
        n_asked(engine) - before,
        "",
        1,
        f"slowest {slowest:.0f} ms",
    )
    process = psutil.Process(gateway.process.pid)
    misses = [generate(gateway.url, f"miss {number}") for number in range(N_CHEAP)]
    yield costs(process, "cache miss, concurrency 16", misses, "miss")
    asyncio.run(ask_all([generate(gateway.url, "hit")], 1))
    yield costs(process, "cache hit, concurrency 16", [generate(gateway.url, "hit")] * N_CHEAP, "hit")
    frames = [encoded(as_seen(room(1, size=(640, 480)), seed=number)) for number in range(N_FRAMES + 1)]
    named = {"x-aicleaner-zone": "bench"}
    looks = [(*generate(gateway.url, "look", images=[each]), named) for each in frames]
    yield costs(process, "a JPEG of 640 x 480, zone without a distance", looks[1:], "miss")
    assert push(store, ZONES, {"zones": {"bench": 10}}) == "ok"
    near = [(*generate(gateway.url, "near", images=[each]), named) for each in frames]
    asyncio.run(ask_all(near[:1], 1))
    yield costs(process, "the same, zone with a distance", near[1:], "hit")

    mixed_streams = [mixed(gateway.url, number) for number in range(N_MIXED)]
    found = asyncio.run(ask_all(mixed_streams, AT_A_TIME))
    ids = {each for _, _, each in found}
    assert len(ids) == N_MIXED
    with suppress(AssertionError):  # the row says how many are missing
        wait_for(lambda: ids <= recorded(store), "all records are there", 20)
    raw: Any = store.get(STATS_KEY)
    n_hits = sum(how == "hit" for _, how, _ in found)
    note = f"{AT_A_TIME} at a time, {n_hits} hits, {N_MIXED // LEAVES_EVERY} left amid; told as lost: "
    note += str(json.loads(raw)["records_lost_total"])
    yield Row(f"records missing of {N_MIXED} mixed streams", len(ids - recorded(store)), "", 0, note)


def n_asked(engine: Asgi) -> int:
    async def ask_engine() -> int:
        async with aiohttp.ClientSession() as session, session.get(engine.url + "/api/tags") as answer:
            return int((await answer.json(content_type=None))["n"])

    return asyncio.run(ask_engine())
