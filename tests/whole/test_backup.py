"""A backup of the running product, and another product that goes on from it."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.product import BASE_DIR, Product, wait_for
from tests.site.data_folder import RIGHT, DataFolder


def ask(product: Product, token: str) -> int:
    """The status of a request that another machine sends."""
    body = {"model": "aicleaner-sample", "prompt": "Room: kitchen. Seen: crumbs.", "stream": False}
    headers = {"X-Forwarded-For": "192.0.2.7", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(
        f"{product.gateway_url}/api/generate", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def manage(product: Product, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "manage.py", *map(str, words)]
    return subprocess.run(
        command, cwd=BASE_DIR, env=product.environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(400)
def test_another_product_goes_on_from_a_backup_of_the_running_one(tmp_path: Path) -> None:
    file, n_asked = tmp_path / "a.tar.zst", 0
    with Product(tmp_path / "one") as product:
        product.wait_until_healthy()
        folder = DataFolder(product.data_dir)
        token = folder.fill()
        wait_for(lambda: ask(product, token) == 200, "the gateway knows the key")
        over = threading.Event()

        def load() -> None:
            nonlocal n_asked
            while not over.is_set():
                n_asked += ask(product, token) == 200

        thread = threading.Thread(target=load)
        thread.start()
        try:
            wait_for(lambda: n_asked > 5, "requests are answered")
            n_stored = len(folder.query("SELECT 1 FROM inference_inferencerequest"))
            made = manage(product, "backup", file, "--with-models", "--json")
            assert made.returncode == 0, made.stderr
            assert json.loads(made.stdout)["waiting_records"] is not None
            running = manage(product, "restore", file, "--force")
            assert running.returncode == 1
            assert "stop it with Ctrl-C first" in running.stderr
        finally:
            over.set()
            thread.join(60)
        assert product.health()["status"] == "ok"

    with Product(tmp_path / "two") as other:
        other.stop()
        restored = manage(other, "restore", file, "--force", "--json")
        assert restored.returncode == 0, restored.stderr
        found = DataFolder(other.data_dir)
        seen = found.look(token)
        assert len(seen["requests"]) == len(set(seen["requests"])) >= n_stored
        assert {**seen, "requests": []} == RIGHT
        assert found.query("PRAGMA integrity_check") == [("ok",)]
        other.start()
        other.wait_until_healthy()
        assert ask(other, "aic-" + "x" * 43) == 401
        wait_for(lambda: ask(other, token) == 200, "the key is valid there")
        wait_for(
            lambda: len(found.query("SELECT 1 FROM inference_inferencerequest")) > len(seen["requests"]),
            "it goes on with the log",
        )
