"""The series store: what is written is what comes back, on every tier, crashes included."""

from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitoring import selectors, services
from monitoring.models import Chunk, Journal, Rollup, Series
from monitoring.services import SampleWriter
from monitoring.store.packing import KEPT_BITS, pack, unpack
from monitoring.store.retention import HOUR, kept_s
from monitoring.store.rollups import CHUNK_S, RAW_S, TIERS_S, Buckets

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
        services.pack_journal(host="box", open_block=START + CHUNK_S)
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
    services.pack_journal(host="box", open_block=START + 2 * CHUNK_S)
    day = 24 * 3600
    services.delete_old_samples(host="box", now=START + 3 * day, retention_s=7 * day)
    assert Chunk.objects.count() == 0
    assert Rollup.objects.filter(tier=10).exists()
    services.delete_old_samples(host="box", now=START + 9 * day, retention_s=7 * day)
    assert not Rollup.objects.filter(tier=10).exists()
    assert Rollup.objects.filter(tier=60).exists()
    services.delete_old_samples(host="box", now=START + 500 * day, retention_s=7 * day)
    assert Rollup.objects.count() == 0


@pytest.mark.django_db
def test_two_hosts_share_a_database_and_neither_touches_the_other_s_seconds() -> None:
    one, other = SampleWriter("one", 168), SampleWriter("other", 168)
    for second in range(START, START + CHUNK_S + 10):
        one.write(second, {"a": 1.0})
        other.write(second, {"a": 2.0})
    for host, value in (("one", 1.0), ("other", 2.0)):
        for tier in (1, 10):
            answer = selectors.query(host, ["a"], START, START + CHUNK_S + 10, tier=tier).series["a"]
            assert answer.count.sum() == CHUNK_S + 10
            assert set(answer.mean) == {value}
    assert Journal.objects.filter(host="one").count() == Journal.objects.filter(host="other").count() == 10
    services.delete_old_samples(host="one", now=START + 500 * 86_400, retention_s=HOUR)
    assert not Chunk.objects.filter(series__host="one").exists()
    assert Chunk.objects.filter(series__host="other").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("leap_s", [-86_400, -3600, -100, -1, 100, 3600, 86_400 * 400])
def test_a_clock_that_leaps_and_comes_back_loses_and_doubles_nothing(leap_s: int) -> None:
    times = [*range(START, START + 320)]
    times += [each + leap_s for each in range(START + 320, START + 340)]  # the clock is wrong for a while
    times += [*range(START + 340, START + 700)]
    writer = SampleWriter("box", 168)
    for second in times:
        writer.write(second, {"a": 5.0})
    writer.write(START + 10_000, {"a": 5.0})
    wanted = {each for each in times if START <= each < START + 3600}
    answers = {tier: selectors.query("box", ["a"], START, START + 3600, tier=tier) for tier in (1, 10, 60)}
    for tier, answer in answers.items():
        assert answer.series["a"].count.sum() == len(wanted), tier
        assert set(answer.series["a"].mean[answer.series["a"].count > 0]) == {5.0}
    assert Journal.objects.count() == 1


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 80)), min_size=1, max_size=6))
@pytest.mark.django_db
def test_whatever_the_clock_does_each_second_counts_once(spans: list[tuple[int, int]]) -> None:
    Journal.objects.all().delete()
    Series.objects.all().delete()
    writer = SampleWriter("box", 168)
    written = [START + begin + n for begin, length in spans for n in range(length)]
    for second in written:
        writer.write(second, {"a": 1.0})
    writer.write(START + 7200, {"a": 1.0})
    for tier in (1, 10, 60):
        answer = selectors.query("box", ["a"], START, START + 3600, tier=tier)
        assert answer.series["a"].count.sum() == len(set(written))


@pytest.mark.django_db
def test_a_clock_that_leaps_ahead_does_not_cost_the_history() -> None:
    writer = write_samples(CHUNK_S + 5)
    ahead = START + 1000 * 86_400
    write_samples(3, writer, ahead)
    assert Chunk.objects.filter(start=START).exists()
    write_samples(services.STEADY_S + CHUNK_S + 1, writer, ahead + 3)  # it runs on evenly: it is right
    assert not Chunk.objects.filter(start=START).exists()


@pytest.mark.django_db(transaction=True)
def test_the_journal_of_an_older_data_folder_comes_along() -> None:
    executor = MigrationExecutor(connection)
    old = executor.loader.project_state([("monitoring", "0001_series_store")]).apps
    executor.migrate([("monitoring", "0001_series_store")])
    series = old.get_model("monitoring", "Series").objects.create(host="box", name="a")
    data = np.array([series.id], np.uint32).tobytes() + np.array([7.0]).tobytes()
    old.get_model("monitoring", "Journal").objects.create(at=START, data=data)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("monitoring"))
    assert selectors.query("box", ["a"], START, START + 1, tier=1).series["a"].mean[0] == 7.0


@pytest.mark.django_db
def test_a_name_longer_than_the_column_is_cut_and_kept() -> None:
    SampleWriter("box", 168).write(START, {"x" * 300: 1.0})
    assert Series.objects.get().name == "x" * services.MAX_NAME


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


@pytest.mark.parametrize(
    ("age_s", "tier"),
    [
        (3600, 1),
        (47 * HOUR, 1),
        (49 * HOUR, 10),
        (169 * HOUR, 60),
        (29 * 24 * HOUR, 60),
        (31 * 24 * HOUR, 3600),
    ],
)
def test_an_hour_of_long_ago_comes_from_a_tier_that_is_still_kept(age_s: int, tier: int) -> None:
    assert selectors.pick_tier(3600, age_s=age_s) == tier


@given(st.integers(1, 400 * 86_400), st.integers(0, 500 * 86_400))
def test_the_tier_is_kept_for_the_age_or_there_is_no_coarser_one(span_s: int, age_s: int) -> None:
    tier = selectors.pick_tier(span_s, age_s=age_s)
    assert kept_s(tier, 168 * HOUR) >= age_s or tier == TIERS_S[-1]


@given(st.integers(300, 366 * 86_400), st.sampled_from([100, 500, 5000]))
def test_a_point_cuts_days_evenly_and_there_are_not_too_many(span_s: int, points: int) -> None:
    tier = selectors.pick_tier(span_s, points)
    step = tier * selectors.merged_buckets(span_s, tier, points)
    assert 86_400 % step == 0
    assert span_s / step < 2 * points or step == 86_400


@given(st.integers(1, 20_000 * HOUR))
def test_a_coarser_tier_is_never_kept_shorter(retention_s: int) -> None:
    kept = [kept_s(tier, retention_s) for tier in (RAW_S, *TIERS_S)]
    assert kept == sorted(kept)
    assert kept[1] == retention_s


@pytest.mark.django_db
def test_a_question_about_old_times_is_answered_after_the_seconds_are_gone() -> None:
    write_samples(2 * CHUNK_S)
    now = START + 3 * 24 * HOUR
    write_samples(1, begin=now)
    services.delete_old_samples(host="box", now=now, retention_s=168 * HOUR)
    answer = selectors.query("box", ["a"], START, START + 600, now=now)
    assert (answer.step, answer.series["a"].count.sum()) == (10, 2 * CHUNK_S)


@pytest.mark.django_db
def test_a_gap_is_a_gap_in_every_tier() -> None:
    writer = write_samples(CHUNK_S)
    write_samples(CHUNK_S, writer, START + 4 * HOUR)
    write_samples(10, writer, START + 6 * HOUR)  # these are in the journal still
    end = START + 7 * HOUR
    for tier in (1, 10, 60, 3600):
        answer = selectors.read("box", ["a"], START, end, tier)
        buckets, times = answer.series["a"], answer.start + tier * np.arange(len(answer.series["a"]))
        known = np.isfinite(buckets.mean)
        written = [(START, CHUNK_S), (START + 4 * HOUR, CHUNK_S), (START + 6 * HOUR, 10)]
        expected = sum((times + tier > begin) & (times < begin + length) for begin, length in written)
        assert np.array_equal(known, expected > 0), tier
        assert np.array_equal(known, buckets.count > 0)
        assert np.array_equal(known, np.isfinite(buckets.low))
        assert np.array_equal(known, np.isfinite(buckets.high))
        assert buckets.count.sum() == 2 * CHUNK_S + 10


@pytest.mark.django_db
def test_buckets_stay_where_they_are_when_the_question_moves() -> None:
    write_samples(3 * CHUNK_S)
    step, found = 0, []
    for moved in (0, 7, 13):
        answer = selectors.query("box", ["a"], START + moved, START + 800 + moved, points=100)
        step = answer.step
        assert answer.start % step == 0
        buckets = answer.series["a"]
        found.append(dict(zip(answer.start + step * np.arange(len(buckets)), buckets.mean, strict=True)))
    inner = [at for at in found[0] if START + 13 <= at < START + 800 - step]
    assert len(inner) > 90
    assert all(found[0][at] == found[1][at] == found[2][at] for at in inner)


@pytest.mark.django_db
def test_what_came_and_went_leaves_no_name_behind() -> None:
    writer = SampleWriter("box", 168)
    writer.write(START, {"stays": 1.0, "went": 1.0})
    writer.write(START + HOUR, {"stays": 1.0, "new": 1.0})
    Chunk.objects.filter(series__name="went").delete()
    Rollup.objects.filter(series__name="went").delete()
    services.delete_empty_series(host="box")
    assert set(Series.objects.values_list("name", flat=True)) == {"stays", "new"}


@pytest.mark.django_db
def test_a_writer_tidies_up_each_hour_and_goes_on_with_series_that_it_deleted() -> None:
    writer = SampleWriter("box", 1)
    writer.write(START - 500 * 24 * HOUR, {"a": 1.0, "rare": 1.0})
    for second in range(START - services.STEADY_S - 5, START + 5):
        writer.write(second, {"a": 1.0})
    assert list(Series.objects.values_list("name", flat=True)) == ["a"]
    writer.write(START + 5, {"a": 1.0, "rare": 2.0})
    assert selectors.read("box", ["rare"], START, START + 10, 1).series["rare"].mean[5] == 2.0


@pytest.mark.django_db
def test_a_host_that_is_gone_is_tidied_up_by_those_that_remain() -> None:
    write_samples(5, SampleWriter("gone", 168), START - 500 * 24 * HOUR)
    write_samples(5, SampleWriter("away", 168), START - 50 * 24 * HOUR)
    write_samples(5, SampleWriter("other", 168), START - 60)
    write_samples(services.STEADY_S + 5, begin=START - services.STEADY_S)
    assert not Series.objects.filter(host="gone").exists()
    assert not Chunk.objects.filter(series__host="away").exists()
    assert selectors.read("away", ["a"], START - 51 * 24 * HOUR, START, 3600).series["a"].count.sum() == 5
    assert Journal.objects.filter(host="other").count() == 5


@pytest.mark.django_db
def test_events_come_back_oldest_first() -> None:
    for second in (5, 1, 2000):
        services.record_event(host="box", at=START + second, kind="model", text=f"at {second}")
    found = selectors.recent_events("box", START + 900)
    assert [event.text for event in found] == ["at 1", "at 5", "at 2000"]
    assert found[0].at == datetime.fromtimestamp(START + 1, UTC)
