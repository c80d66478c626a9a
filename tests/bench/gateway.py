"""CPU of a request through the gateway, beside a direct call and a proxy that does nothing else."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import redis

from aicleaner_site.valkey import ValkeyServer
from tests.bench import Row, cpu_s, sharing
from tests.bench.asgi import Asgi, answers
from tests.inference.gateways import hand_over
from tests.inference.serving import Server
from tests.product import free_ports, wait_for

N_REQUESTS = 4000
FLOOR_MS = 0.12  # on the machine of architecture.md, where its figures to reach were set
PROFILE = {
    "name": "bench",
    "options": {"num_ctx": 2048, "num_predict": 512, "temperature": 0.1, "top_p": 0.9, "num_thread": 4},
    "max_threads": 4,
    "parallel": 64,
    "cache": False,
    "memory_bytes": 2**40,
}
BODY: dict[str, Any] = {"model": "m", "prompt": "Room: kitchen. Seen: crumbs on the floor.", "stream": False}
# An engine that answers at once, and a proxy that only passes on (the floor: raw uvicorn and aiohttp).
UPSTREAM = """
BODY = b'{"model":"m","response":"x","done":true,"done_reason":"stop","total_duration":1000,"load_duration":1,' \\
       b'"prompt_eval_count":9,"prompt_eval_duration":10,"eval_count":5,"eval_duration":100,"version":"1",' \\
       b'"models":[{"name":"m:latest","digest":"d","size":1}]}'
async def app(scope, receive, send):
    if scope["type"] != "http": return
    while (await receive()).get("more_body"): pass
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": BODY})
"""
FLOOR = """
import os, aiohttp
session = None
async def app(scope, receive, send):
    global session
    if scope["type"] != "http": return
    if session is None: session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"): break
    async with session.request(scope["method"], os.environ["UP"] + scope["path"], data=body or None) as answer:
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
"""


async def ask(url: str, n: int, concurrency: int, body: dict[str, Any]) -> list[float]:
    """Seconds of each of `n` requests."""
    took: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client() -> None:
            for _ in range(n // concurrency):
                started = time.perf_counter()
                async with session.post(url, json=body) as answer:
                    await answer.read()
                    assert answer.status == 200
                took.append(time.perf_counter() - started)

        await asyncio.gather(*(client() for _ in range(concurrency)))
    return took


def measure(
    url: str,
    process: psutil.Process | None,
    concurrency: int,
    *,
    n: int = N_REQUESTS,
    path: str = "/api/generate",
    body: dict[str, Any] = BODY,
) -> tuple[float, float]:
    """(CPU ms a request of `process`, median ms a request)."""
    asyncio.run(ask(url + path, n // 10, concurrency, body))
    before = cpu_s(process) if process else 0.0
    took = asyncio.run(ask(url + path, n, concurrency, body))
    spent = (cpu_s(process) - before) if process else 0.0
    return spent / len(took) * 1000, sorted(took)[len(took) // 2] * 1000


def measure_litellm(upstream_url: str, floor_cpu: float) -> Row:
    """LiteLLM's proxy before the same upstream; its requests are OpenAI's, so that the answer is put together anew."""
    command = shutil.which("litellm")
    what = "LiteLLM, concurrency 16, without records"
    if command is None:
        return Row(what, float("nan"), "CPU-ms", note="not installed; 11 to 18 in architecture.md")
    (port,) = free_ports(1)
    arguments = [
        "--model",
        "ollama/m",
        "--api_base",
        upstream_url,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    with subprocess.Popen(
        [command, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: asyncio.run(answers(url, "/health/liveliness")), "LiteLLM answers", 120)
            body = {"model": "ollama/m", "messages": [{"role": "user", "content": BODY["prompt"]}]}
            cpu, median = measure(
                url, psutil.Process(process.pid), 16, n=400, path="/v1/chat/completions", body=body
            )
        finally:
            process.terminate()
    return Row(what, cpu, "CPU-ms", note=f"{cpu / floor_cpu:.0f} x floor; median {median:.2f} ms")


def run() -> Iterator[Row]:
    folder = Path(tempfile.mkdtemp(prefix="aic-b-"))
    upstream = Asgi(folder, "upstream", UPSTREAM)
    floor = Asgi(folder, "floor", FLOOR, UP=upstream.url)
    try:
        with (
            ValkeyServer(folder / "v.sock") as valkey,
            Server(
                "inference.gateway", "--valkey", valkey.url, "--engine", f"ollama={upstream.url}"
            ) as gateway,
        ):
            ours, its = psutil.Process(gateway.process.pid), psutil.Process(floor.process.pid)
            for concurrency in (1, 16):
                cpu, median = measure(gateway.url, ours, concurrency)
                floor_cpu, floor_median = measure(floor.url, its, concurrency)
                _, direct = measure(upstream.url, None, concurrency)
                yield Row(f"gateway, concurrency {concurrency}, with records", cpu, "CPU-ms", 0.35)
                yield Row("  the same / floor", cpu / floor_cpu, "x", 0.35 / FLOOR_MS, "architecture.md")
                yield Row(f"floor: uvicorn + aiohttp, concurrency {concurrency}", floor_cpu, "CPU-ms")
                yield Row(
                    f"median of a request, concurrency {concurrency}",
                    median,
                    "ms",
                    note=f"floor {floor_median:.2f}, direct {direct:.2f}",
                )
            with redis.from_url(valkey.url) as store:
                for what, changes, reach in (
                    ("with a profile's options and limits", {}, 0.35),
                    ("cache hit", {"cache": True}, 0.25),
                ):
                    assert hand_over(store, {**PROFILE, **changes}) == "ok"
                    cpu, median = measure(gateway.url, ours, 16)
                    yield Row(
                        f"gateway, concurrency 16, {what}", cpu, "CPU-ms", reach, f"median {median:.2f} ms"
                    )
                    floor_cpu, _ = measure(floor.url, its, 16)
                    yield Row("  the same / floor", cpu / floor_cpu, "x", reach / FLOOR_MS, "architecture.md")
                    yield Row("floor again", floor_cpu, "CPU-ms")
            yield measure_litellm(upstream.url, floor_cpu)
        yield from sharing.run(folder)
    finally:
        upstream.process.terminate()
        floor.process.terminate()
