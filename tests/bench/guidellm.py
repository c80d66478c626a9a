"""GuideLLM against the server of known timing, where it is installed: `uv venv DIR`, `uv pip install -p DIR/bin/python
guidellm` (5.6 GB), and DIR/bin on the PATH."""

import json
import os
import resource
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.workloads.prompts import read_set
from tests.bench import Row, quantile
from tests.inference.serving import Server

STREAMS = 64
N_REQUESTS = (
    64,
    1984,
)  # two runs: their difference is free of what starting it costs, some 30 CPU-s give or take one


def run_guidellm(url: str, n_requests: int, folder: Path) -> tuple[float, float]:
    """(CPU s of all its processes, its median TTFT in ms)."""
    prompts = [each.text for each in read_set("task_generation")]
    (folder / "prompts.txt").write_text("\n".join(prompts * (n_requests // len(prompts) + 1)))
    command = ["guidellm", "run", "--disable-console-interactive"]
    command += ["--backend", f"kind=openai_http,target={url},model=m"]
    command += ["--profile", f"kind=concurrent,streams={STREAMS}"]
    command += ["--constraint", f"kind=max_requests,count={n_requests}"]
    command += ["--data", f"kind=text_file,path={folder / 'prompts.txt'}"]
    command += ["--output", f"kind=json,path={folder / 'report.json'}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    metrics = json.loads((folder / "report.json").read_text())["benchmarks"][0]["metrics"]
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, float(metrics["time_to_first_token_ms"]["successful"]["median"])


def measure_guidellm(timing: dict[str, Any], n_tokens: int) -> Iterator[Row]:
    if shutil.which("guidellm") is None:
        note = "not installed (tests/bench/guidellm.py says how); about 200 in architecture.md"
        yield Row(f"GuideLLM, CPU per 1,000 tokens, {STREAMS} streams", float("nan"), "CPU-ms", note=note)
        return
    default = json.dumps({**timing, "tokens": n_tokens})
    with (
        Server("tests.benchmarks.timed", "--timing", default) as server,
        tempfile.TemporaryDirectory(prefix="aic-b-") as folder,
    ):
        few_s, _ = run_guidellm(server.url, N_REQUESTS[0], Path(folder))
        urllib.request.urlopen(f"{server.url}/log").close()
        many_s, median = run_guidellm(server.url, N_REQUESTS[1], Path(folder))
        with urllib.request.urlopen(f"{server.url}/log") as answer:
            true = quantile(json.load(answer)["ttfts_ms"], 0.5)
    cpu = (many_s - few_s) / ((N_REQUESTS[1] - N_REQUESTS[0]) * n_tokens) * 1e6
    yield Row(f"GuideLLM, TTFT error at the median, {STREAMS} streams", median - true, "ms")
    note = f"starting it: {few_s:.1f} CPU-s with {N_REQUESTS[0]} requests"
    yield Row(f"GuideLLM, CPU per 1,000 tokens, {STREAMS} streams", cpu, "CPU-ms", note=note)
