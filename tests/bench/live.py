"""Delivery of samples to 200 sockets of one web process."""

import asyncio
import http.cookiejar
import json
import time
import urllib.request
from collections.abc import Iterator

import psutil
import websockets

from tests.bench import Row, cpu_s, quantile
from tests.product import Product

N_SOCKETS, SECONDS = 200, 30.0


def session_cookie(product: Product) -> str:
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with opener.open(product.login_link()) as answer:
        answer.read()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


async def listen(url: str, cookie: str, spread: list[float], first_seen: dict[float, float], n: int) -> None:
    headers = {"Cookie": cookie, "Origin": url.replace("ws://", "http://").removesuffix("/ws/live/")}
    async with websockets.connect(url, additional_headers=headers, compression=None) as socket:
        async for message in socket:
            now = time.time()
            at = (
                json.loads(message)["at"]
                if n == 0
                else float(str(message).split('"at":', 1)[1].split(",", 1)[0])
            )
            first_seen.setdefault(at, now)
            spread.append((now - at) * 1000)


async def measure(product: Product, web: psutil.Process) -> tuple[list[float], float]:
    cookie = session_cookie(product)
    url = product.web_url.replace("http://", "ws://") + "/ws/live/"
    delays: list[float] = []
    seen: dict[float, float] = {}
    tasks = [asyncio.create_task(listen(url, cookie, delays, seen, n)) for n in range(N_SOCKETS)]
    await asyncio.sleep(8)
    for task in tasks:
        if task.done():
            await task  # says why
    delays.clear()
    before = cpu_s(web)
    await asyncio.sleep(SECONDS)
    spent = (cpu_s(web) - before) / SECONDS * 60
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return delays, spent


def run() -> Iterator[Row]:
    with Product() as product:
        product.wait_until_healthy()
        web = psutil.Process(product.pid("web"))
        time.sleep(5)
        idle = cpu_s(web)
        time.sleep(10)
        idle = (cpu_s(web) - idle) * 6
        delays, spent = asyncio.run(measure(product, web))
        expected = N_SOCKETS * SECONDS
        yield Row("sample taken to socket, 200 sockets, p50", quantile(delays, 0.5), "ms")
        yield Row("sample taken to socket, 200 sockets, p99", quantile(delays, 0.99), "ms", 50)
        yield Row("web process", spent, "CPU-s/min", 1.0, f"{idle:.2f} without sockets")
        yield Row("samples that did not arrive", max(1 - len(delays) / expected, 0) * 100, "%", 4)
