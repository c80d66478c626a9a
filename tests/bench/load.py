"""The load generator against a server of known timing: how true its instants are and what a token costs it."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from time import perf_counter, process_time

import aiohttp

from benchmarks.load.plan import Plan
from benchmarks.load.result import Result
from tests.bench import Row, quantile
from tests.inference.serving import Server
from tests.product import BASE_DIR

TTFT_MS, GAP_MS, N_TOKENS = 40.0, 20.0, 100
N_REQUESTS = {1: 10, 8: 40, 64: 320}


def plan_for(url: str, streams: int) -> Plan:
    return Plan(
        url=url,
        model="m",
        kind="latency" if streams == 1 else "throughput",
        concurrency=streams,
        n_requests=N_REQUESTS[streams],
        workload="task_generation",
        num_predict=N_TOKENS,
        options={"timing": {"ttft_ms": TTFT_MS, "gap_ms": GAP_MS}},
    )


def measure(plan: Plan) -> Result:
    """By the load generator, in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=plan.for_process(),
        stdout=subprocess.PIPE,
        text=True,
        cwd=BASE_DIR,
        check=True,
    )
    return Result.model_validate(json.loads(done.stdout.splitlines()[-1])["result"])


async def read_bare(url: str, streams: int, n_requests: int) -> tuple[float, list[float]]:
    """The floor: aiohttp on uvloop, a stamp per read, and nothing else. (CPU s, TTFT error of each request in ms)."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Room: kitchen. Seen: crumbs on the floor."}],
        "options": {"num_predict": N_TOKENS, "timing": {"ttft_ms": TTFT_MS, "gap_ms": GAP_MS}},
    }
    errors: list[float] = []
    left = n_requests
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def stream() -> None:
            nonlocal left
            while left:
                left -= 1
                sent = perf_counter()
                async with session.post(f"{url}/api/chat", json=body) as response:
                    reads = [(perf_counter(), data) async for data in response.content.iter_any()]
                last = json.loads(reads[-1][1].splitlines()[-1])
                errors.append((reads[0][0] - sent) * 1000 - last["prompt_eval_duration"] / 1e6)

        before = process_time()
        await asyncio.gather(*(stream() for _ in range(streams)))
        return process_time() - before, errors


def run_bare(url: str, streams: int) -> tuple[float, list[float]]:
    code = "import json, sys; from tests.bench.load import *; print(json.dumps(uvloop.run(read_bare(*json.loads(sys.argv[1])))))"
    n_requests = N_REQUESTS[streams] + streams
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([url, streams, n_requests])],
        stdout=subprocess.PIPE,
        cwd=BASE_DIR,
        check=True,
    )
    cpu_s, errors = json.loads(done.stdout)
    return cpu_s / (n_requests * N_TOKENS) * 1e6, errors


def server_gaps(url: str) -> list[float]:
    with urllib.request.urlopen(f"{url}/log") as answer:
        gaps: list[float] = json.load(answer)["gaps_ms"]
    return gaps


def ttft_errors(result: Result) -> list[float]:
    """ms by which the measured TTFT is longer than what the server did, per request."""
    rows = result.requests
    return [
        first - sent - true
        for first, sent, true in zip(rows.first_ms, rows.sent_ms, rows.prompt_duration_ms, strict=True)
        if first is not None and sent is not None and true is not None
    ]


def run() -> Iterator[Row]:
    with Server("tests.benchmarks.timed") as server:
        for streams in N_REQUESTS:
            floor_cpu, floor_errors = run_bare(server.url, streams)
            server_gaps(server.url)
            result = measure(plan_for(server.url, streams))
            true_gaps = server_gaps(server.url)
            errors = ttft_errors(result)
            gaps = [gap for each in result.requests.gaps_ms for gap in each]
            tokens = sum(n or 0 for n in result.requests.n_tokens)
            name = f"{streams} stream" + "s" * (streams > 1)
            yield Row(
                f"TTFT error, median, {name}",
                quantile(errors, 0.5),
                "ms",
                2.0,
                f"p95 {quantile(errors, 0.95):.2f}; floor {quantile(floor_errors, 0.5):.2f}",
            )
            yield Row(
                f"gap error at p50, {name}",
                abs(quantile(gaps, 0.5) - quantile(true_gaps, 0.5)),
                "ms",
                1.0,
                f"at p95 {abs(quantile(gaps, 0.95) - quantile(true_gaps, 0.95)):.2f}",
            )
            yield Row(
                f"CPU per 1,000 tokens, {name}",
                result.harness.cpu_s / tokens * 1e6,
                "CPU-ms",
                35.0 if streams == 64 else None,
                f"floor {floor_cpu:.1f}; loop lag p99 {result.harness.lag_p99_ms or 0:.1f} ms",
            )
        if find_spec("guidellm") is None:
            note = "not installed: pip install guidellm; 200 in architecture.md"
            yield Row("GuideLLM, CPU per 1,000 tokens, 64 streams", float("nan"), "CPU-ms", note=note)
