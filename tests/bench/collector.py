"""CPU of the collector a minute, with an engine and a gateway to ask, beside psutil doing the same and beside Glances."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil

from aicleaner_site.valkey import ValkeyServer
from inference.sample_model.evaluate import FILE as SAMPLE
from tests.bench import Row, cpu_s_per_minute
from tests.inference.serving import Server
from tests.product import BASE_DIR

SECONDS = 40.0
READERS = """
import time
import django
django.setup()
from monitoring.collector import Sampler
from monitoring.readers import Roots
sampler = Sampler("bench", Roots(valkey_url=VALKEY))
while True:
    time.sleep(1 - time.time() % 1)
    sampler.sample(time.time(), time.monotonic())
"""
# 100 rules of all kinds, each on a series of this machine; with the labels, so that each is one to judge.
RULES = """
import itertools, json, subprocess, sys
import django
django.setup()
from monitoring.models import Rule
sample = subprocess.run([sys.executable, "manage.py", "collect", "--once", "--json"], check=True, capture_output=True).stdout
names = sorted(name for name, value in json.loads(sample)["v"].items() if value is not None)
series = itertools.cycle(names)
kinds = [("threshold", 45), ("rate", 20), ("deviation", 15), ("forecast", 5), ("no_data", 5), ("composite", 10)]
windows = {"threshold": 60, "rate": 300, "deviation": 120, "forecast": 21600}
aggregates = itertools.cycle(["last", "mean", "min", "max"])
made = []
for kind, n in kinds:
    for i in range(n):
        rule = Rule.objects.create(
            name=f"{kind} {i}", kind=kind, series="" if kind == "composite" else next(series), window_s=windows.get(kind, 10),
            aggregate=next(aggregates), fire_at=1e15, clear_at=1e14, limit=1e15, load="cpu_percent", busy_at=50)
        if kind == "composite":
            rule.members.set(made[i * 4 : i * 4 + 4])
        made.append(rule)
print(len(made), len(names))
"""
PSUTIL = """
import psutil, time
n = 0
while True:
    time.sleep(1 - time.time() % 1)
    psutil.cpu_times_percent(percpu=True); psutil.cpu_times_percent(); psutil.cpu_freq(); psutil.getloadavg()
    psutil.virtual_memory(); psutil.swap_memory(); psutil.disk_io_counters(perdisk=True)
    psutil.net_io_counters(pernic=True); psutil.sensors_temperatures()
    if n % 5 == 0: list(psutil.process_iter(["name", "cpu_percent", "memory_info"]))
    n += 1
"""


def measure(command: list[str], environment: dict[str, str]) -> float:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=BASE_DIR, env=environment, stdout=log, stderr=log)
        try:
            # It starts, reads 100 rules and their past: half a CPU second once, that a slow machine makes last.
            spent = cpu_s_per_minute(psutil.Process(process.pid), SECONDS, settle_s=12.0)
            log.seek(0)
            assert process.poll() is None, f"{command} ended: {log.read().decode()[-1000:]}"
            return spent
        finally:
            process.terminate()
            process.wait(20)


def run() -> Iterator[Row]:
    folder = Path(tempfile.mkdtemp(prefix="aic-b-"))
    engine = (
        "inference.engine",
        "--models",
        str(folder / "models"),
        "--seed-model",
        f"aicleaner-sample={SAMPLE}",
    )
    with (
        ValkeyServer(folder / "v.sock") as valkey,
        Server(*engine) as embedded,
        Server(
            "inference.gateway", "--valkey", valkey.url, "--engine", f"embedded={embedded.url}"
        ) as gateway,
    ):
        loading = json.dumps({"model": "aicleaner-sample", "keep_alive": -1}).encode()
        urllib.request.urlopen(f"{gateway.url}/api/generate", loading).close()  # its series, too
        environment = {
            **os.environ,
            "AICLEANER_DATA_DIR": str(folder),
            "REDIS_URL": valkey.url,
            "DJANGO_SETTINGS_MODULE": "aicleaner_site.settings",
            "AICLEANER_SECRET_KEY": "only-for-the-bench",
        }
        subprocess.run(
            [sys.executable, "manage.py", "migrate"], cwd=BASE_DIR, env=environment, check=True, stdout=-3
        )
        readers = READERS.replace("VALKEY", repr(valkey.url))
        n = len(psutil.pids())
        yield Row(
            "all readers at 1 Hz, no store",
            measure([sys.executable, "-c", readers], environment),
            "CPU-s/min",
            0.20,
            f"{n} processes on this machine",
        )
        yield Row(
            "whole collector: readers, push, store",
            measure([sys.executable, "manage.py", "collect"], environment),
            "CPU-s/min",
            0.60,
        )
        made = subprocess.run(
            [sys.executable, "-c", RULES], cwd=BASE_DIR, env=environment, check=True, capture_output=True
        )
        n_rules, n_series = made.stdout.decode().split()[-2:]
        yield Row(
            f"whole collector with {n_rules} rules of all kinds",
            measure([sys.executable, "manage.py", "collect"], environment),
            "CPU-s/min",
            0.60,
            f"{n_series} series on this machine",
        )
        yield Row(
            "floor: psutil only, same things",
            measure([sys.executable, "-c", PSUTIL], environment),
            "CPU-s/min",
        )
        if find_spec("glances"):
            command = [sys.executable, "-m", "glances", "-q", "-t", "1", "--export", "json"]
            command += ["--export-json-file", str(folder / "glances.json")]
            yield Row("peer: Glances at 1 s, exporting", measure(command, environment), "CPU-s/min")
