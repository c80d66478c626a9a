"""The token bucket, with a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from inference.gateway.buckets import Bucket

limits = st.integers(1, 100_000)
steps = st.lists(st.tuples(st.floats(-5, 120, allow_nan=False), st.integers(1, 50)), max_size=60)
SLACK = 1e-6  # of float sums, relative


@given(limits, steps)
def test_no_window_passes_more_than_the_bucket_and_what_came_in_it(
    limit: int, moves: list[tuple[float, int]]
) -> None:
    """Whatever the clock does, backwards included."""
    bucket, now, latest = Bucket(limit, 0.0), 0.0, 0.0
    taken: list[tuple[float, int]] = []
    for step, amount in moves:
        now += step
        latest = max(latest, now)
        if bucket.take(amount, now):
            taken.append((latest, amount))
        assert 0 <= bucket.level <= limit
    for first, (begin, _) in enumerate(taken):
        for last in range(first, len(taken)):
            window_s, sum_ = taken[last][0] - begin, sum(amount for _, amount in taken[first : last + 1])
            assert sum_ <= limit * (1 + window_s / 60) * (1 + SLACK)


@given(limits, st.integers(1, 50), steps)
def test_after_the_told_wait_it_is_there_and_just_before_it_is_not(
    limit: int, amount: int, moves: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(limit, 0.0), 0.0
    for step, each in moves:
        now += max(step, 0)
        bucket.charge(each, now)
    amount = min(amount, limit)
    wait_s = bucket.wait_s(amount, now)
    if wait_s > 1e-3:
        assert bucket.left(now + wait_s * 0.99) < amount
    assert bucket.left(now + wait_s * (1 + SLACK) + 1e-6) >= amount * (1 - SLACK) - 1e-6


@given(st.lists(limits, min_size=2, max_size=6), st.integers(0, 100_000))
def test_other_limits_fill_nothing(changes: list[int], used: int) -> None:
    bucket = Bucket(changes[0], 0.0)
    bucket.charge(used, 0.0)
    for limit in changes[1:]:
        before = bucket.level
        bucket.resize(limit, 0.0)
        assert bucket.level == min(before, limit)
    assert bucket.left(120.0) <= changes[-1]


def test_a_charge_beyond_what_is_there_is_paid_off_by_time() -> None:
    bucket = Bucket(60, 100.0)
    bucket.charge(90, 100.0)
    assert (bucket.level, round(bucket.wait_s(1, 100.0), 9)) == (-30.0, 31.0)
    assert not bucket.take(1, 130.5)
    assert bucket.take(1, 131.5)


def test_a_full_bucket_takes_its_limit_at_once_and_then_one_at_a_time() -> None:
    bucket = Bucket(6, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(7)] == [True] * 6 + [False]
    assert bucket.wait_s(1, 0.0) == 10.0
    assert [bucket.take(1, 10.0), bucket.take(1, 10.0)] == [True, False]
    assert bucket.left(3600.0) == 6  # an hour fills no more than the bucket
