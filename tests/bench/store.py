"""A day of 60 series of this kind of machine: bytes, and the time of questions."""

import math
import random
import time
from collections.abc import Iterator

import numpy as np

from tests.bench import Row, quantile

START = 1_800_000_000 - 1_800_000_000 % 86_400
DAY, N_SERIES = 86_400, 60


def day(kind: int, random_: np.random.Generator) -> np.ndarray:
    """86,400 values such as a machine gives: shares, byte counts that wander, rates that burst, slow temperatures."""
    seconds = np.arange(DAY)
    if kind == 0:  # share of CPU, in ticks of a hundredth
        return np.round(np.clip(20 + 15 * np.sin(seconds / 4000) + random_.normal(0, 6, DAY), 0, 100), 2)
    if kind == 1:  # bytes in use
        return 8e9 + np.cumsum(random_.normal(0, 2e5, DAY)).round() * 4096 / 4096
    if kind == 2:  # bursts
        return np.where(random_.random(DAY) < 0.15, random_.exponential(4e6, DAY).round(), 0.0)
    if kind == 3:  # temperature
        return np.round(45 + 8 * np.sin(seconds / 9000) + random_.normal(0, 0.4, DAY), 0)
    return np.where(random_.random(DAY) < 0.02, random_.random(DAY) * 5, 0.0)  # pressure


def run() -> Iterator[Row]:
    import django

    django.setup()
    from django.core.management import call_command

    from monitoring import selectors, services
    from monitoring.models import Chunk, Rollup, Series
    from monitoring.store.packing import pack
    from monitoring.store.rollups import CHUNK_S

    call_command("migrate", verbosity=0)
    random_ = np.random.default_rng(7)
    series = [Series.objects.create(host="bench", name=f"s{n}") for n in range(N_SERIES)]
    columns = {each.id: day(n % 5, random_) for n, each in enumerate(series)}
    cpu = time.process_time()
    for start in range(0, DAY, CHUNK_S):
        part = {series_id: values[start : start + CHUNK_S] for series_id, values in columns.items()}
        Chunk.objects.bulk_create(
            Chunk(series_id=series_id, start=START + start, data=pack(values, exact=False))
            for series_id, values in part.items()
        )
        for tier in (10, 60, 3600):
            services._roll_up(part, START + start, tier)
    cpu = time.process_time() - cpu
    raw = sum(len(data) for data in Chunk.objects.values_list("data", flat=True).iterator())
    rolled = sum(len(data) for data in Rollup.objects.values_list("data", flat=True).iterator())
    n_rows = Chunk.objects.count()
    yield Row(
        "raw seconds of 60 series, a day, rows and index included", (raw + n_rows * 60) / 2**20, "MiB", 10
    )
    yield Row("floor: float32 without packing", N_SERIES * DAY * 4 / 2**20, "MiB")
    yield Row("their rollups of 10 s, 1 min, 1 h", rolled / 2**20, "MiB")
    yield Row("packing and rolling up, CPU a minute of samples", cpu / (DAY / 60), "CPU-s")
    names = [each.name for each in random.Random(1).sample(series, 10)]
    questions: list[tuple[str, int | None, float]] = [("from raw seconds", 1, 60), ("from rollups", None, 10)]
    for what, wanted, reach in questions:
        took = []
        for _ in range(15):
            started = time.perf_counter()
            answer = selectors.query("bench", names, START, START + DAY, tier=wanted)
            took.append((time.perf_counter() - started) * 1000)
            assert all(math.isfinite(float(np.nanmean(each.mean))) for each in answer.series.values())
        yield Row(f"24 h x 10 series to about 500 points, {what}, median", quantile(took, 0.5), "ms", reach)
