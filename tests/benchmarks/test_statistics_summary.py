"""Summaries of results whose numbers are known."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.plan import Slo
from benchmarks.load.result import Status
from benchmarks.statistics.energy import Energy
from benchmarks.statistics.intervals import quantile_interval, resampled_quantiles, wilson
from benchmarks.statistics.metrics import METRICS, SAMPLES
from benchmarks.statistics.rounds import summarise_round
from benchmarks.statistics.summary import Summary, summarise, summarise_rounds
from tests.benchmarks.results import STARTED_AT, failed, result, row


def value(summary: Summary, key: str) -> float:
    found = summary.values[key].value
    assert found is not None, summary.values[key].reason
    return found


def test_each_metric_is_its_formula() -> None:
    summary = summarise(result([row(250 * number) for number in range(4)], window=(0, 1000)))
    assert value(summary, "ttft_p50_ms") == 100
    assert value(summary, "answer_ttft_p50_ms") == 100
    assert value(summary, "total_p50_ms") == 200
    assert value(summary, "tpot_p50_ms") == 10
    assert value(summary, "gap_p50_ms") == 10
    assert summary.values["gap_p50_ms"].n == 40
    assert value(summary, "decode_tokens_per_s") == pytest.approx(11 / 0.110)
    assert value(summary, "prefill_tokens_per_s") == pytest.approx(50 / 0.050)
    assert value(summary, "overhead_p50_ms") == pytest.approx(210 - 1 - 50 - 110)
    assert value(summary, "output_tokens_per_s") == pytest.approx(44)
    assert value(summary, "requests_per_s") == 4
    assert value(summary, "schedule_lag_p99_ms") == 0
    assert set(summary.values) == set(METRICS)
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_what_has_no_value_has_a_reason() -> None:
    silent = {"total_duration_ms": None, "load_duration_ms": None}
    silent |= {"prompt_duration_ms": None, "eval_duration_ms": None}
    summary = summarise(result([row(0, gaps_ms=[], n_tokens=1, **silent)]))
    for key in ("tpot_p50_ms", "gap_p50_ms", "decode_tokens_per_s", "overhead_p50_ms", "goodput_per_s"):
        assert summary.values[key].value is None
    for found in summary.values.values():
        assert (found.value is None) == (found.reason is not None)


@pytest.mark.parametrize(
    ("n", "has_p95", "has_p99"), [(99, False, False), (100, True, False), (1000, True, True)]
)
def test_tails_need_their_number_of_requests(n: int, has_p95: bool, has_p99: bool) -> None:
    summary = summarise(result([row(200 * number) for number in range(n)]))
    assert (summary.values["ttft_p95_ms"].value is not None) == has_p95
    assert (summary.values["ttft_p99_ms"].value is not None) == has_p99
    assert str(n) in (summary.values["ttft_p99_ms"].reason or str(n))


def test_open_loop_counts_the_waiting_before_sending() -> None:
    rows = [row(30 + 100 * number, scheduled_ms=100 * number) for number in range(5)]
    late = summarise(result(rows, kind="load", rate_per_s=10.0))
    assert value(late, "ttft_p50_ms") == 130
    assert value(late, "ttft_sent_p50_ms") == 100
    assert value(late, "total_p50_ms") == 230
    assert value(late, "schedule_lag_p99_ms") == 30
    assert late.invalid_reason is None


def test_open_loop_counts_what_the_engine_answers_and_not_what_arrives() -> None:
    """Ten arrive in a second, and each waits until the one before is done: one ends each 250 ms."""
    ends = [250.0 * (number + 1) for number in range(10)]
    rows = [
        row(100 * number, first_ms=end - 100, last_ms=end, done_ms=end) for number, end in enumerate(ends)
    ]
    measured = result(rows, window=(0, 1000), kind="load", rate_per_s=10.0)
    assert value(summarise(measured), "requests_per_s") == 4
    assert summarise_round(measured, run="r", round_=0).values["requests_per_s"] == 4
    assert summarise(measured).values["ttft_p50_ms"].n == 10


def test_run_whose_generator_was_the_bottleneck_is_invalid() -> None:
    late = [row(60 + 100 * number, scheduled_ms=100 * number) for number in range(5)]
    assert "schedule lag" in (summarise(result(late, kind="load", rate_per_s=10.0)).invalid_reason or "")
    assert "97%" in (summarise(result([row(0)], cpu_share=0.97)).invalid_reason or "")
    assert "ended well" in (summarise(result([failed(0, Status.HTTP)])).invalid_reason or "")
    slow = summarise(result([row(0)], lag_p99_ms=80.0))
    assert (slow.harness_cpu_share, slow.harness_lag_p99_ms) == (0.05, 80.0)
    assert slow.invalid_reason is None
    assert "80 ms" in slow.warnings[0]


def test_warm_up_and_tail_count_for_tokens_but_not_for_latency() -> None:
    rows = [row(0, measured=False, first_ms=900.0), row(100), row(900, measured=False)]
    rows[0] |= {"last_ms": 1000.0, "done_ms": 1000.0, "first_answer_ms": 900.0}
    summary = summarise(result(rows, window=(950, 1050)))
    assert summary.n_measured == 1
    assert value(summary, "ttft_p50_ms") == 100
    # 960 ... 1000 of the first, none of the second, 1000 ... 1050 of the third, a token each 10 ms
    assert summary.tokens == pytest.approx(5 + 6)


def test_errors_are_counted_by_status_with_wilson_interval() -> None:
    rows = [row(200 * number) for number in range(6)]
    rows += [failed(1300, Status.HTTP, "HTTP 503: busy"), failed(1301, Status.HTTP, "later")]
    rows += [failed(1302, Status.TIMEOUT, "slow"), failed(1303, Status.CUT, measured=False)]
    summary = summarise(result(rows))
    assert summary.errors == {"http": 2, "timeout": 1}
    assert summary.error_examples == {"http": "HTTP 503: busy", "timeout": "slow"}
    errors = summary.values["error_rate"]
    assert errors.value == pytest.approx(3 / 9)
    # by hand: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.96
    assert errors.low == pytest.approx(0.1206, abs=1e-4)
    assert errors.high == pytest.approx(0.6458, abs=1e-4)
    assert summary.timeline.errors[1] == 3


def test_goodput_counts_what_keeps_every_limit() -> None:
    rows = [
        row(0),
        row(250, gaps_ms=[20.0] * 10),
        row(600, gaps_ms=[], n_tokens=1),
        failed(900, Status.ENGINE),
    ]
    limits = Slo(ttft_ms=100, tpot_ms=15)
    summary = summarise(result(rows, window=(0, 1000)), slo=limits)
    assert value(summary, "goodput_per_s") == 2
    assert value(summary, "attainment") == 0.5
    assert value(summarise(result(rows, window=(0, 1000)), slo=Slo(ttft_ms=99)), "attainment") == 0


def test_fixed_length_keeps_answers_of_full_length() -> None:
    rows = [row(0, done_reason="length"), row(300, done_reason="stop", gaps_ms=[10.0] * 2)]
    summary = summarise(result(rows, workload=None, prompt_tokens=50, output_tokens=11))
    assert summary.values["total_p50_ms"].n == 1
    assert value(summary, "total_p50_ms") == 200
    assert "1 of 2 answers ended before 11 tokens" in summary.warnings[0]


def test_natural_lengths_are_told_apart() -> None:
    rows = [row(1000 * number, gaps_ms=[10.0] * (number + 1)) for number in range(12)]
    strata = summarise(result(rows)).strata
    assert [(each.tokens_from, each.tokens_to, each.n) for each in strata] == [
        (2, 5, 4),
        (6, 9, 4),
        (10, 13, 4),
    ]
    assert strata[0].tpot_ms == 10
    assert summarise(result([row(1000 * number) for number in range(12)])).strata == []


def test_prefill_rate_needs_to_know_what_was_cached() -> None:
    told = summarise(result([row(0, n_cached=30)], nonce=False))
    assert value(told, "prefill_tokens_per_s") == pytest.approx(20 / 0.050)
    unknown = summarise(result([row(0)], nonce=False)).values["prefill_tokens_per_s"]
    assert unknown.value is None
    assert "cached" in (unknown.reason or "")


def test_rounds_are_pooled_and_rates_go_over_all_windows() -> None:
    rounds = [result([row(0), row(slow)], window=(0, slow + 200)) for slow in (200, 300, 400)]
    summary = summarise_rounds(rounds)
    assert value(summary, "requests_per_s") == pytest.approx(6 / 1.5)
    rate = summary.values["requests_per_s"]
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low < 4 < rate.high
    assert summary.n_measured == 6
    assert len(summary.timeline.at) == 3


def test_timeline_spreads_tokens_over_the_seconds_they_came_in() -> None:
    line = summarise(result([row(0), row(800)])).timeline
    assert line.at == [STARTED_AT.timestamp()]
    assert line.tokens_per_s == [22]
    assert line.running == pytest.approx([0.4])
    assert line.ttft_ms == [100]
    longer = summarise(result([row(850)])).timeline
    assert longer.tokens_per_s == [5, 6]  # 950, 960 ... 990 | 1000 ... 1050
    assert longer.running == pytest.approx([0.15, 0.05])
    assert longer.ttft_ms == [100, None]


def test_energy_is_the_integral_over_the_window() -> None:
    measured = result([row(0, gaps_ms=[100.0] * 10)], window=(0, 2000))
    at = STARTED_AT.timestamp()
    power = [(at + second, 50.0 + 10 * second) for second in range(-1, 4)]
    energy = Energy(power=power, idle_w=20, tariff_per_kwh=0.36, hardware_per_hour=1.8)
    summary = summarise(measured, energy=energy)
    assert summary.tokens == 11
    assert value(summary, "joules_per_token") == pytest.approx(120 / 11)
    assert value(summary, "net_joules_per_token") == pytest.approx((120 - 40) / 11)
    assert value(summary, "cost_per_mtok") == pytest.approx((120 / 3.6e6 * 0.36 + 2 / 3600 * 1.8) / 11 * 1e6)
    gap = summarise(measured, energy=Energy(power=power[:2]))
    assert gap.values["joules_per_token"].value is None
    cloud = summarise(measured, energy=Energy(price_per_mtok=0.6))
    assert value(cloud, "cost_per_mtok") == 0.6


def test_nothing_measured_is_no_crash() -> None:
    empty = summarise(result([]).model_copy(update={"window": None, "complete": False}))
    assert empty.invalid_reason is not None
    assert not empty.complete
    assert all(each.value is None and each.reason for each in empty.values.values())


def test_every_sample_and_metric_explains_itself() -> None:
    for sample in SAMPLES.values():
        assert sample.formula.endswith(".")
        assert sample.label
    for key, metric in METRICS.items():
        assert metric.formula.endswith(".")
        assert metric.label
        assert metric.key == key
        assert metric.effect in (0.03, 0.05, 0.10)
        assert metric.sample is None or metric.sample in SAMPLES


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(0, 20))
def test_distribution_holds_the_extremes_and_ascends(firsts: list[int], n_failed: int) -> None:
    starts = [0, *accumulate(first + 200 for first in firsts)]
    rows = [
        row(sent, first_ms=sent + first, last_ms=sent + first + 100.0, done_ms=sent + first + 100.0)
        for sent, first in zip(starts, firsts, strict=False)
    ]
    rows += [failed(starts[-1], Status.BROKEN) for _ in range(n_failed)]
    summary = summarise(result(rows))
    found = summary.distributions["ttft_ms"]
    assert found.n == len(firsts)
    assert found.values[0] == min(firsts)
    assert found.values[-1] == max(firsts)
    assert found.values == sorted(found.values)
    median = summary.values["ttft_p50_ms"]
    assert median.value == np.median(firsts)
    assert median.low is None or median.high is None or median.low <= np.median(firsts) <= median.high
    assert summary.n_errors == n_failed


@given(st.integers(1, 400), st.data())
def test_wilson_encloses_the_share(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1


def test_hierarchical_bootstrap_takes_rounds_of_any_length() -> None:
    rounds = [np.arange(size, dtype=float) for size in (1, 7, 30)]
    medians = resampled_quantiles(rounds, 0.5)
    assert np.isfinite(medians).all()
    assert medians.min() == 0, "the round of one value may be drawn three times"
    assert medians.max() <= 29
    # Rounds that differ: an interval of their requests alone would be far too narrow.
    apart = [np.full(50, level) for level in (1.0, 2.0, 3.0)]
    assert quantile_interval(apart, 0.5) == (1.0, 3.0)


def test_quantile_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(400):
        interval = quantile_interval([random.lognormal(0, 0.5, 60)], 0.5)
        assert interval is not None
        hits += interval[0] <= 1.0 <= interval[1]
    assert hits / 400 > 0.93
