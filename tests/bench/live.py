"""Delivery of samples to 200 sockets of one web process, beside bare TCP connections that get the same bytes; and what a
sample costs the browser that shows it."""

import asyncio
import http.cookiejar
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import psutil
import websockets
from playwright.sync_api import sync_playwright

from tests.bench import Row, cpu_s, quantile
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.product import Product, free_ports, wait_for

N_SOCKETS, SECONDS = 200, 30.0
# The floor: each second the time and as many bytes as a sample has, to every connection, by asyncio alone.
BARE = """
import asyncio, sys, time
port, size = map(int, sys.argv[1:])
writers = []
async def main():
    async def joined(reader, writer): writers.append(writer)
    async with await asyncio.start_server(joined, "127.0.0.1", port, backlog=512):
        while True:
            await asyncio.sleep(1 - time.time() % 1)
            line = b"%.6f" % time.time()
            for writer in writers: writer.write(line.ljust(size - 1) + b"\\n")
asyncio.run(main())
"""


def log_in(product: Product) -> dict[str, str]:
    """By the link, which works once; the cookies by name."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with opener.open(product.login_link()) as answer:
        answer.read()
    return {cookie.name: str(cookie.value) for cookie in jar}


async def measure_bare(port: int, web: psutil.Process) -> tuple[list[float], float]:
    delays: list[float] = []

    async def listen_bare() -> None:
        reader, _ = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        while line := await reader.readline():
            delays.append((time.time() - float(line.split(b" ", 1)[0])) * 1000)

    tasks = [asyncio.create_task(listen_bare()) for _ in range(N_SOCKETS)]
    await asyncio.sleep(3)
    delays.clear()
    before = cpu_s(web)
    await asyncio.sleep(SECONDS)
    spent = (cpu_s(web) - before) / SECONDS * 60
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return delays, spent


def bare(size: int) -> tuple[list[float], float]:
    """Delays (ms) and CPU-s a minute of the bare server."""
    (port,) = free_ports(1)
    with subprocess.Popen([sys.executable, "-c", BARE, str(port), str(size)]) as server:
        try:
            web = psutil.Process(server.pid)
            wait_for(lambda: web.net_connections("tcp"), "the bare server listens")
            return asyncio.run(measure_bare(port, web))
        finally:
            server.terminate()


async def listen(url: str, cookie: str, spread: list[float], sizes: list[int], n: int) -> None:
    headers = {"Cookie": cookie, "Origin": url.replace("ws://", "http://").removesuffix("/ws/live/")}
    async with websockets.connect(url, additional_headers=headers, compression=None) as socket:
        async for message in socket:
            now = time.time()
            at = (
                json.loads(message)["at"]
                if n == 0
                else float(str(message).split('"at":', 1)[1].split(",", 1)[0])
            )
            sizes.append(len(message))
            spread.append((now - at) * 1000)


async def measure(
    product: Product, web: psutil.Process, cookies: dict[str, str]
) -> tuple[list[float], float, int]:
    """Delays (ms), CPU-s a minute of the web process, bytes of a sample."""
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    url = product.web_url.replace("http://", "ws://") + "/ws/live/"
    delays: list[float] = []
    sizes: list[int] = []
    tasks = [asyncio.create_task(listen(url, cookie, delays, sizes, n)) for n in range(N_SOCKETS)]
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
    return delays, spent, int(quantile([float(size) for size in sizes], 0.5))


def browser_ms(product: Product, cookies: dict[str, str]) -> tuple[float, float, bool]:
    """Of the browser's main thread for each sample, in ms: all that it does on the live page, and scripts alone; and whether
    Plotly is loaded there."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        context.add_cookies(
            [{"name": name, "value": value, "url": product.web_url} for name, value in cookies.items()]
        )
        page = context.new_page()
        page.goto(product.web_url)
        page.wait_for_selector(".kpi")
        page.wait_for_timeout(5000)
        client = context.new_cdp_session(page)
        client.send("Performance.enable")

        def spent() -> dict[str, float]:
            found = client.send("Performance.getMetrics")["metrics"]
            return {each["name"]: each["value"] for each in found}

        before = spent()
        page.wait_for_timeout(SECONDS * 1000)
        after = spent()
        has_plotly = bool(page.evaluate("typeof window.Plotly !== 'undefined'"))
        browser.close()
    whole, scripts = (
        (after[each] - before[each]) / SECONDS * 1000 for each in ("TaskDuration", "ScriptDuration")
    )
    return whole, scripts, has_plotly


def run() -> Iterator[Row]:
    with Product() as product:
        product.wait_until_healthy()
        cookies = log_in(product)
        whole, scripts, has_plotly = browser_ms(product, cookies)
        note = f"scripts {scripts:.1f}; Plotly {'is' if has_plotly else 'is not'} loaded"
        yield Row("main thread of the browser, a sample", whole, "ms", 25, note)
        web = psutil.Process(product.pid("web"))
        time.sleep(5)
        idle = cpu_s(web)
        time.sleep(10)
        idle = (cpu_s(web) - idle) * 6
        delays, spent, size = asyncio.run(measure(product, web, cookies))
        expected = N_SOCKETS * SECONDS
        yield Row("sample taken to socket, 200 sockets, p50", quantile(delays, 0.5), "ms")
        yield Row("sample taken to socket, 200 sockets, p99", quantile(delays, 0.99), "ms", 50)
        floor_delays, floor = bare(size)
        yield Row("bare TCP, the same bytes, p99", quantile(floor_delays, 0.99), "ms")
        yield Row("bare TCP, the same bytes", floor, "CPU-s/min", note=f"{size} bytes, {N_SOCKETS} sockets")
        yield Row(
            "web process", spent, "CPU-s/min", 1.0, f"{idle:.2f} without sockets, {spent / floor:.1f} x bare"
        )
        yield Row("samples that did not arrive", max(1 - len(delays) / expected, 0) * 100, "%", 4)
