"""Start time and memory of everything."""

import json
import re
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
        with Product(folder) as product:
            product.wait_until_healthy()
            yield Row("first start to healthy (environment installed)", took(product), "s")
        with Product(folder) as product:
            yield Row("second start to healthy", took(product), "s", 8)
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


def took(product: Product) -> float:
    found = re.search(r"is up(?: in part)? after ([\d.]+) s", product.output())
    assert found is not None, product.output()
    return float(found[1])


def pss_mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss / 2**20)
    except psutil.Error:
        return 0.0
