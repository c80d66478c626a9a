"""The load generator against a server of known timing: how true its instants are, what a token costs it, how soon it stops;
and same against same on the embedded engine."""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from itertools import combinations
from time import perf_counter, process_time

import aiohttp

from benchmarks.load.plan import Plan
from benchmarks.load.result import Result
from benchmarks.statistics.compare import compare
from benchmarks.statistics.rounds import RoundSummary, summarise_round, take_turns
from benchmarks.statistics.verdicts import NO_DIFFERENCE, Comparison
from inference.sample_model.evaluate import FILE as SAMPLE
from tests.bench import Row, quantile
from tests.bench.guidellm import measure_guidellm
from tests.inference.serving import Server
from tests.product import BASE_DIR

TTFT_MS, SPREAD_MS, GAP_MS, N_TOKENS = 40, 40, 20, 100
TIMING = {"ttft_ms": TTFT_MS, "spread_ms": SPREAD_MS, "gap_ms": GAP_MS}
N_REQUESTS = {1: 10, 8: 40, 64: 320}
COMMAND = [sys.executable, "-m", "benchmarks.load"]
HEADLINES = ("ttft_p50_ms", "total_p50_ms", "tpot_p50_ms", "output_tokens_per_s")
N_AA_RUNS = 10
REACH_CPU_MS, FLOOR_CPU_MS = 35.0, 24.5  # per 1,000 tokens at 64 streams, on the machine of architecture.md


def plan_for(url: str, streams: int) -> Plan:
    return Plan(
        url=url,
        model="m",
        kind="latency" if streams == 1 else "throughput",
        concurrency=streams,
        n_requests=N_REQUESTS[streams],
        workload="task_generation",
        num_predict=N_TOKENS,
        options={"timing": TIMING},
    )


def measure(plan: Plan) -> Result:
    """By the load generator, in its own process."""
    done = subprocess.run(
        COMMAND, input=plan.for_process(), stdout=subprocess.PIPE, text=True, cwd=BASE_DIR, check=True
    )
    return Result.model_validate(json.loads(done.stdout.splitlines()[-1])["result"])


async def read_bare(url: str, streams: int, n_requests: int) -> tuple[float, list[float]]:
    """The floor: aiohttp on uvloop, a stamp per read and nothing else. (CPU s, TTFT error of each request in ms)."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Room: kitchen. Seen: crumbs on the floor."}],
        "options": {"num_predict": N_TOKENS, "timing": TIMING},
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


def run_bare(url: str, streams: int) -> tuple[float, float]:
    """(CPU-ms per 1,000 tokens, median TTFT error in ms), in a process of its own."""
    code = (
        "import json, sys, uvloop; from tests.bench.load import read_bare;"
        "print(json.dumps(uvloop.run(read_bare(*json.loads(sys.argv[1])))))"
    )
    n_requests = N_REQUESTS[streams] + streams
    command = [sys.executable, "-c", code, json.dumps([url, streams, n_requests])]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=BASE_DIR, check=True)
    cpu_s, errors = json.loads(done.stdout)
    return cpu_s / (n_requests * N_TOKENS) * 1e6, quantile(errors, 0.5)


def server_gaps(url: str) -> list[float]:
    """ms between the server's own writes since the last time."""
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


def accuracy(url: str, streams: int) -> Iterator[Row]:
    floor_cpu, floor_error = run_bare(url, streams)
    server_gaps(url)
    result = measure(plan_for(url, streams))
    true_gaps, errors = server_gaps(url), ttft_errors(result)
    gaps = [gap for each in result.requests.gaps_ms for gap in each]
    p50, p95 = (abs(quantile(gaps, q) - quantile(true_gaps, q)) for q in (0.5, 0.95))
    cpu = result.harness.cpu_s / sum(n or 0 for n in result.requests.n_tokens) * 1e6
    lag = result.harness.lag_p99_ms or 0.0
    name = f"{streams} stream{'s' if streams > 1 else ''}"
    note = f"p95 {quantile(errors, 0.95):.2f}; floor {floor_error:.2f}"
    yield Row(f"TTFT error, median, {name}", quantile(errors, 0.5), "ms", 2.0, note)
    yield Row(f"gap error at the median, {name}", p50, "ms", 1.0, f"at p95 {p95:.2f}")
    note = f"floor {floor_cpu:.1f}; loop lag p99 {lag:.1f} ms"
    yield Row(f"CPU per 1,000 tokens, {name}", cpu, "CPU-ms", REACH_CPU_MS if streams == 64 else None, note)
    if streams == 64:
        yield Row("  the same / floor", cpu / floor_cpu, "x", REACH_CPU_MS / FLOOR_CPU_MS, "architecture.md")


def stop_s(url: str) -> float:
    """From SIGTERM to the end of the process, result read, with 64 streams under way."""
    plan = plan_for(url, 64).model_copy(update={"n_requests": 5000, "n_warmup": 500})
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=BASE_DIR
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(plan.for_process())
        process.stdin.close()
        while json.loads(process.stdout.readline()).get("done", 0) < 64:
            pass
        asked = perf_counter()
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        process.wait()
        return perf_counter() - asked


def same_against_same() -> Iterator[Row]:
    """Runs of two arms that are one configuration, six rounds of ten requests each."""
    runs: list[list[list[RoundSummary]]] = []
    with (
        tempfile.TemporaryDirectory(prefix="aic-b-") as models,
        Server("inference.engine", "--models", models, "--seed-model", f"sample={SAMPLE}") as engine,
    ):
        for number in range(N_AA_RUNS):
            arms: list[list[RoundSummary]] = [[], []]
            for round_, arm in take_turns((0, 1)):
                plan = Plan(
                    url=engine.url,
                    model="sample",
                    n_requests=10,
                    workload="task_generation",
                    num_predict=32,
                    seed=round_,
                    options={"temperature": 0},
                )
                arms[arm].append(summarise_round(measure(plan), run=str(number), round_=round_))
            runs.append(arms)
    found = [compare(a, b, key) for a, b in runs for key in HEADLINES]
    yield called_different("within a run", found)
    single = [run[0] for run in runs]  # the others are the history that the product has by then
    found = [
        compare(a, b, key, [each for each in single if each is not a and each is not b])
        for a, b in combinations(single, 2)
        for key in HEADLINES
    ]
    yield called_different(f"between runs, {N_AA_RUNS - 2} earlier ones known", found)


def called_different(name: str, found: list[Comparison]) -> Row:
    wrong = [each for each in found if each.verdict != NO_DIFFERENCE]
    told = ", ".join(f"{each.metric} {each.low:.3f} to {each.high:.3f}" for each in wrong[:4])
    note = f"{len(wrong)} of {len(found)} comparisons {told}"
    return Row(f"same against same called different, {name}", len(wrong) / len(found), "", 0.05, note)


def run() -> Iterator[Row]:
    with Server("tests.benchmarks.timed") as server:
        for streams in N_REQUESTS:
            yield from accuracy(server.url, streams)
        yield Row("SIGTERM to the end, 64 streams", stop_s(server.url), "s", 1.0)
    yield from measure_guidellm(TIMING, N_TOKENS)
    yield from same_against_same()
