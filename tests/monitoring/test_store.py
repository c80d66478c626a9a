"""The series store: what is written is what comes back, on every tier, crashes included."""

from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitoring import selectors, services
from monitoring.models import Chunk, Journal, Rollup, Series
from monitoring.services import SampleWriter
from monitoring.store.packing import KEPT_BITS, pack, unpack
from monitoring.store.rollups import CHUNK_S, Buckets

START = 1_800_000_000 - 1_800_000_000 % 3600
floats = st.floats(-(2.0**20), 2.0**20, width=32) | st.just(float("nan"))


@given(hnp.arrays(np.float64, st.integers(0, 400), elements=floats))
def test_a_packed_gauge_keeps_its_value_to_a_part_in_8000(values: np.ndarray) -> None:
    found = unpack(pack(values, exact=False))
    assert np.array_equal(np.isnan(found), np.isnan(values))
    assert np.allclose(found, values, rtol=2.0 ** -(KEPT_BITS + 1), atol=1e-38, equal_nan=True)


@given(hnp.arrays(np.float64, st.integers(0, 400), elements=st.floats(0, 2**53) | st.just(float("nan"))))
def test_a_packed_counter_is_exact(values: np.ndarray) -> None:
    assert np.array_equal(unpack(pack(values, exact=True)), values, equal_nan=True)


@given(st.binary(max_size=200))
def test_damaged_bytes_are_an_error_and_nothing_else(data: bytes) -> None:
    with suppress(ValueError):
        unpack(data)


@given(hnp.arrays(np.float64, st.integers(1, 300), elements=floats), st.integers(1, 50), st.integers(0, 299))
def test_buckets_do_not_depend_on_where_the_values_were_cut(
    values: np.ndarray,
    factor: int,
    cut: int,
) -> None:
    whole = Buckets.of(values).merged(factor)
    cut = min(cut, len(values)) // factor * factor
    parts = Buckets.empty(len(whole))
    for position, part in ((0, values[:cut]), (cut // factor, values[cut:])):
        if len(part):
            parts.add(position, Buckets.of(part).merged(factor))
    for name in ("low", "high", "count"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name), equal_nan=True)
    assert np.allclose(parts.mean, whole.mean, rtol=1e-6, atol=1e-6, equal_nan=True)


def wave(second: int) -> float:
    return 50 + 40 * float(np.sin(second / 200))


def write_samples(n_seconds: int, writer: SampleWriter | None = None, begin: int = START) -> SampleWriter:
    writer = writer or SampleWriter("box", 168)
    for second in range(begin, begin + n_seconds):
        values: dict[str, float | None] = {"a": wave(second), "n_total": float(second), "never": None}
        writer.write(second + 0.2, values)
    return writer


@pytest.mark.django_db
def test_every_second_comes_back_from_chunks_and_journal() -> None:
    write_samples(CHUNK_S + 40)
    assert Journal.objects.count() == 40
    assert Chunk.objects.count() == 2
    answer = selectors.query("box", ["a", "n_total", "nope"], START, START + CHUNK_S + 40, tier=1)
    expected = [wave(START + n) for n in range(CHUNK_S + 40)]
    assert answer.step == 1
    assert np.allclose(answer.series["a"].mean, expected, rtol=2e-4)
    assert answer.series["n_total"].mean[7] == START + 7
    assert np.isnan(answer.series["nope"].mean).all()
    assert not Series.objects.filter(name="never").exists()


@pytest.mark.django_db
def test_a_rollup_gives_minimum_mean_and_maximum_with_the_newest_minutes() -> None:
    write_samples(2 * CHUNK_S + 25)
    end = START + 2 * CHUNK_S + 25
    answer = selectors.query("box", ["a"], START, end, tier=60, points=1000)
    buckets = answer.series["a"]
    first = [wave(START + n) for n in range(60)]
    assert buckets.low[0] == pytest.approx(min(first), rel=2e-4)
    assert buckets.mean[0] == pytest.approx(np.mean(first), rel=2e-4)
    assert buckets.high[0] == pytest.approx(max(first), rel=2e-4)
    assert buckets.count.sum() == pytest.approx(2 * CHUNK_S + 25)
    assert set(Rollup.objects.values_list("tier", flat=True)) == {10, 60, 3600}


@pytest.mark.django_db
def test_an_hour_is_gathered_from_twelve_chunks() -> None:
    writer = write_samples(10)
    for block in range(1, 13):
        write_samples(10, writer, START + block * CHUNK_S)
    answer = selectors.query("box", ["a"], START, START + 3600, tier=3600)
    assert answer.series["a"].count[0] == 120


@pytest.mark.django_db
def test_a_killed_collector_loses_no_stored_second() -> None:
    write_samples(CHUNK_S - 1)  # killed here: nothing was packed
    write_samples(3, SampleWriter("box", 168), START + CHUNK_S + 100)
    answer = selectors.query("box", ["a"], START, START + CHUNK_S, tier=1)
    assert np.isfinite(answer.series["a"].mean).sum() == CHUNK_S - 1
    assert Journal.objects.count() == 3


@pytest.mark.django_db
def test_packing_that_fails_in_the_middle_leaves_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    write_samples(20)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(services, "_roll_up", fail)
    with pytest.raises(OSError, match="disk full"):
        services.pack_journal(before=START + CHUNK_S)
    assert Journal.objects.count() == 20
    assert Chunk.objects.count() == 0


@pytest.mark.django_db
def test_a_second_written_twice_counts_once() -> None:
    writer = SampleWriter("box", 168)
    writer.write(START + 0.1, {"a": 1.0})
    writer.write(START + 0.9, {"a": 3.0})
    assert selectors.query("box", ["a"], START, START + 1, tier=1).series["a"].mean[0] == 3.0


@pytest.mark.django_db
def test_each_tier_is_kept_for_its_time() -> None:
    write_samples(2 * CHUNK_S)
    services.pack_journal(before=START + 2 * CHUNK_S)
    day = 24 * 3600
    services.delete_old_samples(now=START + 3 * day, retention_s=7 * day)
    assert Chunk.objects.count() == 0
    assert Rollup.objects.filter(tier=10).exists()
    services.delete_old_samples(now=START + 9 * day, retention_s=7 * day)
    assert not Rollup.objects.filter(tier=10).exists()
    assert Rollup.objects.filter(tier=60).exists()
    services.delete_old_samples(now=START + 500 * day, retention_s=7 * day)
    assert Rollup.objects.count() == 0


@pytest.mark.django_db
def test_recent_samples_are_every_second_of_the_last_quarter_of_an_hour() -> None:
    write_samples(30)
    answer = selectors.recent_samples("box", ["a"], START + 29.5)
    assert len(answer.series["a"]) == 900
    assert answer.start == START + 30 - 900
    assert answer.series["a"].mean[-1] == pytest.approx(wave(START + 29), rel=2e-4)


@pytest.mark.parametrize(("span_s", "tier"), [(900, 1), (86_400, 60), (6 * 3600, 10), (90 * 86_400, 3600)])
def test_a_question_goes_to_the_tier_that_gives_about_500_points(span_s: int, tier: int) -> None:
    assert selectors.pick_tier(span_s) == tier


@pytest.mark.django_db
def test_events_come_back_oldest_first() -> None:
    for second in (5, 1, 2000):
        services.record_event(host="box", at=START + second, kind="model", text=f"at {second}")
    found = selectors.recent_events("box", START + 900)
    assert [event.text for event in found] == ["at 1", "at 5", "at 2000"]
    assert found[0].at == datetime.fromtimestamp(START + 1, UTC)
