"""Deliveries by the worker's own code to a webhook of this machine, beside bare posts of the same bodies to it.

The server is a process of its own that answers 204 at once, a connection a post, as the webhook does."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from aicleaner_site.valkey import ValkeyServer
from tests.bench import Row
from tests.product import BASE_DIR, free_ports, wait_for

N = 200
SERVER = """
import asyncio, sys
async def serve(reader, writer):
    try:
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
        await writer.drain()
    finally:
        writer.close()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=512) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def run() -> Iterator[Row]:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    (port,) = free_ports(1)
    with (
        ValkeyServer(settings.VALKEY_SOCKET),
        subprocess.Popen([sys.executable, "-c", SERVER, str(port)], cwd=BASE_DIR) as server,
    ):
        try:
            wait_for(lambda: _post(port, b"{}"), "the webhook answers")
            yield from _measure(port)
        finally:
            server.terminate()


def _measure(port: int) -> Iterator[Row]:
    from monitoring import tasks
    from monitoring.models import Delivery

    bodies = _fire(port)
    took, cpu = time.perf_counter(), time.process_time()
    for body in bodies:
        assert _post(port, body)
    took, cpu = time.perf_counter() - took, time.process_time() - cpu
    floor_ms = took / N * 1000
    yield Row("floor: bare posts of the same bodies", floor_ms, "ms", note=f"{N / took:.0f} a second")
    yield Row("floor: their CPU, without that of the server", cpu / N * 1000, "CPU-ms")

    took, cpu = time.perf_counter(), time.process_time()
    tasks.deliver_notices()
    took, cpu = time.perf_counter() - took, time.process_time() - cpu
    left = set(Delivery.objects.exclude(status="sent").values_list("status", "last_error"))
    assert not left, left
    note = f"{N / took:.0f} a second in one of eight threads, {took / N * 1000 / floor_ms:.1f} x bare"
    yield Row(f"a delivery: lease, signed post, mark ({N} waiting)", took / N * 1000, "ms", note=note)
    yield Row("its CPU", cpu / N * 1000, "CPU-ms", 25)


def _fire(port: int) -> list[bytes]:
    """N open alerts, each with a notice for the webhook; the bodies that these will have."""
    from monitoring.alerts.deliveries import _notice_of
    from monitoring.alerts.loop import AlertLoop
    from monitoring.channels.webhook import new_secret
    from monitoring.models import Delivery
    from tests.monitoring.alerting import make_rule
    from tests.monitoring.receivers import configure

    url = f"http://127.0.0.1:{port}/hook"
    configure("webhook", {}, {"url": url, "signing_secret": new_secret()})
    make_rule(repeat_s=0)
    loop = AlertLoop("bench")
    loop.feed({"at": time.time(), "v": {f"heat_percent{{n={n}}}": 95.0 for n in range(N)}})
    assert loop.take_next()
    Delivery.objects.filter(channel="log").delete()
    rows = Delivery.objects.select_related("alert")
    return [json.dumps(_notice_of([row]).payload()).encode() for row in rows]


def _post(port: int, body: bytes) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/hook", body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 204
    except OSError:
        return False
    finally:
        connection.close()
