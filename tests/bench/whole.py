"""Start time and memory of everything."""

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench import Row
from tests.product import Product


def run() -> Iterator[Row]:
    folder = Path(tempfile.mkdtemp(prefix="aic-b-"))
    try:
        # From the command to the line that says it is up: the product's own count leaves out what Python needs to begin.
        begun = time.monotonic()
        with Product(folder) as product:
            yield Row("first start to healthy (environment installed)", time.monotonic() - begun, "s")
            product.wait_until_healthy()
        begun = time.monotonic()
        with Product(folder) as product:
            yield Row("second start to healthy", time.monotonic() - begun, "s", 8)
            product.wait_until_healthy()
            body = json.dumps(
                {"model": "aicleaner-sample", "prompt": "Room: attic. Seen: dust on the floor."}
            )
            with urllib.request.urlopen(f"{product.gateway_url}/api/generate", body.encode()) as answer:
                answer.read()
            time.sleep(10)
            pss = {each: pss_mib(each) for each in product.processes()}
            yield Row("all processes idle, sample model loaded", sum(pss.values()), "MiB PSS", 600)
            for each, mib in sorted(pss.items(), key=lambda item: -item[1])[:4]:
                yield Row(f"  {' '.join(each.cmdline())[-50:]}", mib, "MiB PSS")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pss_mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss / 2**20)
    except psutil.Error:
        return 0.0
