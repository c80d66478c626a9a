"""Each process killed once with -9 while requests run: what is lost is what the docs say, and all come back."""

import http.client
import json
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.product import Product, wait_for


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(AICLEANER_ADMIN_PASSWORD="only-for-this-test") as running:
        running.wait_until_healthy()
        yield running


class Load:
    """Requests through the gateway, one after the other, until the block ends."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.n_right = self.n_wrong = 0
        self._stop = threading.Event()

    def __enter__(self) -> "Load":
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        wait_for(lambda: self.n_right > 2, "requests are answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.thread.join(60)

    def _run(self) -> None:
        body = {
            "model": "aicleaner-sample",
            "prompt": "Room: kitchen. Seen: crumbs on the floor.",
            "stream": False,
        }
        while not self._stop.is_set():
            request = urllib.request.Request(
                f"{self.product.gateway_url}/api/generate", json.dumps(body).encode()
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    self.n_right += json.loads(answer.read())["done"]
            except (OSError, ValueError, http.client.HTTPException):
                self.n_wrong += 1
                self._stop.wait(0.05)


def kill(product: Product, name: str) -> None:
    old = product.pid(name)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: product.pid(name) != old, f"{name} is started again", 30)
    assert f"{name} was killed by SIGKILL: it is restarted" in product.output()


@pytest.mark.parametrize("name", ["collector", "gateway", "engine", "web", "worker", "beat", "valkey"])
def test_a_killed_process_comes_back_and_the_others_never_notice(product: Product, name: str) -> None:
    others = {each: product.pid(each) for each in ("collector", "gateway", "engine", "web") if each != name}
    with Load(product) as load:
        kill(product, name)
        product.wait_until_healthy()
        before = load.n_right
        wait_for(lambda: load.n_right > before + 2, "requests are answered again")
    assert {each: product.pid(each) for each in others} == others
    if name not in {"gateway", "engine"}:
        assert load.n_wrong == 0, f"killing {name} cost {load.n_wrong} requests"


def stored(product: Product) -> list[int]:
    """Seconds in the journal, read from the product's own database file."""
    import sqlite3

    with sqlite3.connect(f"file:{product.data_dir / 'db.sqlite3'}?mode=ro", uri=True) as connection:
        return [row[0] for row in connection.execute("SELECT at FROM monitoring_journal ORDER BY at")]


def test_a_killed_collector_loses_only_the_seconds_of_its_restart(product: Product) -> None:
    wait_for(lambda: len(stored(product)) > 3, "some seconds are stored")
    before = stored(product)
    kill(product, "collector")
    product.wait_until_healthy()
    wait_for(lambda: stored(product)[-1] > before[-1] + 1, "new seconds are stored")
    after = stored(product)
    cut = time.time() // 300 * 300
    assert [second for second in before if second >= cut] == [s for s in after if cut <= s <= before[-1]]


def test_records_of_answered_requests_survive_a_killed_worker(product: Product) -> None:
    import sqlite3

    def n_stored() -> int:
        with sqlite3.connect(f"file:{product.data_dir / 'db.sqlite3'}?mode=ro", uri=True) as connection:
            return int(
                connection.execute(
                    "SELECT COUNT(*) FROM inference_inferencerequest WHERE status = 200"
                ).fetchone()[0]
            )

    before = n_stored()
    with Load(product) as load:
        kill(product, "worker")
        wait_for(lambda: load.n_right > 20, "twenty answers")
    wait_for(lambda: n_stored() >= before + load.n_right, "all records are stored", 60)


def test_a_model_process_that_is_killed_costs_its_request_only(product: Product) -> None:
    with Load(product) as load:
        engine = psutil.Process(product.pid("engine"))
        for child in engine.children(recursive=True):
            if "inference.engine.runner" in " ".join(child.cmdline()):
                child.kill()
        before = load.n_right
        wait_for(lambda: load.n_right > before + 2, "requests are answered again")
    assert load.n_wrong <= 1


def test_no_secret_stands_in_any_log(product: Product) -> None:
    secrets = [
        (product.data_dir / "secret_key").read_text().strip(),
        "only-for-this-test",
        product.login_link().rstrip("/").rpartition("/")[2],
    ]
    texts: dict[str, Any] = {
        path.name: path.read_text() for path in Path(product.data_dir, "logs").glob("*.log")
    }
    assert len(texts) >= 7
    for name, text in texts.items():
        for secret in secrets:
            assert secret not in text, name
        assert "crumbs on the floor" not in text, f"a prompt in {name}"


def test_a_second_start_is_refused_and_a_second_folder_s_port_is_named(product: Product) -> None:
    import subprocess
    import sys

    again = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=Path(__file__).parents[2],
        env=product.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1
    assert "already runs on" in again.stderr


@pytest.mark.parametrize("victim", ["watch.py", "supervisord"])
def test_no_orphan_is_left_when_the_terminal_or_the_supervisor_is_killed(victim: str) -> None:
    product = Product()
    product.start()
    try:
        everything = product.processes()
        next(each for each in everything if victim in " ".join(each.cmdline())).kill()
        # A supervisord that is left stops them in turn, each within 15 s.
        _, alive = psutil.wait_procs(everything, timeout=60)
        assert not [" ".join(each.cmdline()) for each in alive]
    finally:
        for each in everything:
            if each.is_running():
                each.kill()
        product.process.wait(10)
        product.terminal.unlink(missing_ok=True)
        shutil.rmtree(product.data_dir, ignore_errors=True)
