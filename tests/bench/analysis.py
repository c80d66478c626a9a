"""What the analysis of series says where nothing is going on, how soon it finds what is, and what a run costs.

Generated series of known truth (tests/monitoring/generated.py); then 100 series with 7 days in a database."""

import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from tests.bench import Row, quantile

N_SERIES, WEEKS_OF_NOISE, N_SHIFTS = 100, 4, 40
DAY = 86_400
START = 1_800_000_000 - 1_800_000_000 % DAY


def run() -> Iterator[Row]:
    import django

    django.setup()
    yield from _false_alarms()
    yield from _delays()
    yield from _forecasts()
    yield from _cost()


def _false_alarms() -> Iterator[Row]:
    from monitoring.analysis.usual import WEEK_S
    from tests.monitoring.generated import STATIONARY, false_anomalies, false_of_studies

    for name, make in STATIONARY.items():
        n = 0
        for seed in range(WEEKS_OF_NOISE):
            values = make(np.random.default_rng(seed), 3 * WEEK_S)
            n += false_anomalies(values[WEEK_S:]) + false_of_studies(values)
        yield Row(f"false findings a series and week, {name}", n / WEEKS_OF_NOISE, "findings", 1)


def _delays() -> Iterator[Row]:
    from tests.monitoring.generated import SHIFTING, seconds_to_find

    for name, make in SHIFTING.items():
        took = list(seconds_to_find(make, np.random.default_rng(9), N_SHIFTS))
        found = f"{sum(each <= 300 for each in took)} of {len(took)} within 300 s"
        yield Row(f"a shift by a fifth, until it is found, p90, {name}", quantile(took, 0.9), "s", 300, found)


def _forecasts() -> Iterator[Row]:
    from monitoring.analysis.heading import arrival_at, heading_of

    n, hours, missed = 200, np.arange(168.0), 0
    for seed in range(n):
        values = 60 + 0.1 * hours + np.random.default_rng(seed).normal(0, 1, 168)
        found = heading_of(values, 1.0, per_day=24)
        arrival = arrival_at(100.0, found) if found else None
        truth = (40 - 16.8) / 0.1
        missed += arrival is None or not arrival.soonest <= truth <= arrival.latest
    yield Row("forecasts of a limit whose interval misses the truth", 100 * missed / n, "%", 10)


def _cost() -> Iterator[Row]:
    from django.core.management import call_command

    from monitoring.analysis import services
    from monitoring.models import Finding
    from tests.bench.month import seconds
    from tests.monitoring.stored import store_rolled

    call_command("migrate", verbosity=0)
    random = np.random.default_rng(7)
    for number in range(N_SERIES):
        store_rolled("bench", START, {f"s{number}_percent": seconds(number % 5, 7 * DAY, random)})
    now = START + 7 * DAY
    cpu = time.process_time()
    services.look_at_series("bench", datetime.fromtimestamp(now, UTC))
    yield Row(
        f"a study of {N_SERIES} series with 7 days, once an hour", time.process_time() - cpu, "CPU-s", 10
    )
    tracemalloc.start()
    services.look_at_series("bench", datetime.fromtimestamp(now + 3600, UTC))
    yield Row("its memory at most", tracemalloc.get_traced_memory()[1] / 2**20, "MiB", 100)
    tracemalloc.stop()
    yield from _cost_of_looks(now)
    yield Row("findings said of them", Finding.objects.filter(host="bench").count(), "findings")


def _cost_of_looks(now: int) -> Iterator[Row]:
    """With the newest minutes in the journal, as a collector leaves them."""
    from monitoring.analysis import services
    from monitoring.models import Analysis
    from monitoring.services import SampleWriter
    from tests.bench.month import seconds

    random = np.random.default_rng(8)
    newest = {f"s{number}_percent": seconds(number % 5, 600, random) for number in range(N_SERIES)}
    writer, took = SampleWriter("bench", 168), []
    for second in range(600):
        writer.write(now + second, {name: float(values[second]) for name, values in newest.items()})
        if second % 60 == 59:
            Analysis.objects.update(studied_at=datetime.fromtimestamp(now + second, UTC))
            cpu = time.process_time()
            services.look_at_series("bench", datetime.fromtimestamp(now + second + services.NOT_YET_S, UTC))
            took.append(time.process_time() - cpu)
    judged = f"{Analysis.objects.get(host='bench').n_judged} judged by the last"
    what = f"a look at the newest minutes of {N_SERIES} series, once a minute"
    yield Row(what, quantile(took, 0.5), "CPU-s", 0.3, judged)
