"""Comparisons: what is called a difference, on a made-up machine with the noise of a real one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.result import Status
from benchmarks.statistics.compare import compare, decide
from benchmarks.statistics.metrics import METRICS
from benchmarks.statistics.multiple import benjamini_hochberg, holm
from benchmarks.statistics.rounds import RoundSummary, summarise_round, take_turns
from benchmarks.statistics.verdicts import Verdict
from tests.benchmarks.results import Machine, failed, result, row

HEADLINES = ("ttft_p50_ms", "total_p50_ms", "tpot_p50_ms", "output_tokens_per_s")
SAME: Verdict = "no difference shown"


def test_arms_take_turns_and_change_their_order() -> None:
    assert [arm for _, arm in take_turns("AB", 4)] == list("ABBAABBA")
    assert take_turns("ABC", 2) == [(0, "A"), (0, "B"), (0, "C"), (1, "C"), (1, "B"), (1, "A")]


def test_same_configuration_in_one_run_comes_out_as_no_difference() -> None:
    machine = Machine(1)
    verdicts = []
    for _ in range(150):
        a, b = machine.run([1, 1])
        verdicts += [compare(a, b, key).verdict for key in HEADLINES]
    assert verdicts.count(SAME) / len(verdicts) >= 0.95


@pytest.mark.parametrize("n_history", [0, 3, 8])
def test_same_configuration_in_two_runs_comes_out_as_no_difference(n_history: int) -> None:
    machine = Machine(2 + n_history)
    verdicts = []
    for _ in range(100):
        history = [machine.run([1])[0] for _ in range(n_history)]
        a, b = machine.run([1])[0], machine.run([1])[0]
        verdicts += [compare(a, b, key, history).verdict for key in HEADLINES]
    assert verdicts.count(SAME) / len(verdicts) >= 0.95


def test_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    machine = Machine(3)
    n, hits = 200, {"paired": 0, "between runs": 0}
    for _ in range(n):
        a, b = machine.run([1, 1.1])
        other = machine.run([1.1])[0]
        for name, against in (("paired", b), ("between runs", other)):
            found = compare(a, against, "total_p50_ms")
            assert found.paired == (name == "paired")
            assert found.low is not None
            assert found.high is not None
            hits[name] += found.low <= 1 / 1.1 <= found.high
    assert hits["paired"] / n >= 0.93
    assert hits["between runs"] / n >= 0.93


def test_requests_alone_would_call_the_same_configuration_different() -> None:
    """Why the unit is the run: pooled requests of two A/A runs, tested as if they were independent."""
    from scipy import stats

    machine = Machine(4)
    wrong = 0
    for _ in range(60):
        sides = [
            [each for one in machine.run([1], n_requests=200)[0] for each in one.samples["total_ms"]]
            for _ in range(2)
        ]
        wrong += stats.mannwhitneyu(*sides).pvalue < 0.05
    assert wrong / 60 > 0.4


@pytest.mark.parametrize(("speed", "verdict"), [(1.2, "better"), (1 / 1.2, "worse")])
def test_real_difference_is_found(speed: float, verdict: Verdict) -> None:
    machine = Machine(6)
    history = [machine.run([1])[0] for _ in range(8)]
    paired, between = [], []
    for _ in range(40):
        a, b = machine.run([1, speed])
        paired += [compare(a, b, key).verdict for key in HEADLINES]
        between += [compare(a, machine.run([speed])[0], key, history).verdict for key in HEADLINES]
    assert paired.count(verdict) / len(paired) > 0.8
    assert between.count(verdict) / len(between) > 0.8
    opposite = "worse" if verdict == "better" else "better"
    assert opposite not in paired + between


def test_tail_is_compared_by_runs_and_requests() -> None:
    machine = Machine(7)
    history = [machine.run([1], n_requests=30)[0] for _ in range(8)]
    verdicts: dict[float, list[Verdict]] = {1: [], 3: []}
    for speed, found in verdicts.items():
        for _ in range(20):
            a, b = machine.run([1, speed], n_requests=30)
            found.append(compare(a, b, "total_p95_ms").verdict)
            other = machine.run([speed], n_requests=30)[0]
            found.append(compare(a, other, "total_p95_ms", history).verdict)
    assert verdicts[1].count(SAME) >= 38
    assert verdicts[3].count("better") >= 34
    a, b = machine.run([1, 1], n_requests=10)
    few = compare(a, b, "total_p95_ms")
    assert few.ratio is None
    assert "100 requests" in few.why


def test_too_few_rounds_or_requests_are_no_evidence() -> None:
    machine = Machine(8)
    a, b = machine.run([1, 3], rounds=5)
    for one, other in ((a, b), (a, machine.run([3], rounds=5)[0])):
        found = compare(one, other, "total_p50_ms")
        assert found.verdict == SAME
        assert not found.not_worse
        assert "needed" in found.why
        assert found.ratio is not None
    a, b = machine.run([1, 3], n_requests=9)
    assert "10 requests" in compare(a, b, "total_p50_ms").why
    assert compare(a, [], "total_p50_ms").why == "One side has no rounds."
    with pytest.raises(KeyError):
        compare(a, b, "speed")


@pytest.mark.parametrize("metric", ["total_p50_ms", "total_p95_ms"])
def test_runs_by_themselves_are_called_different_only_when_their_spread_is_known(metric: str) -> None:
    machine = Machine(9)
    a, b = machine.run([1], n_requests=40)[0], machine.run([3], n_requests=40)[0]
    history = [machine.run([1], n_requests=40)[0] for _ in range(6)]
    alone = compare(a, b, metric, history[:2])
    assert alone.verdict == SAME
    assert not alone.not_worse
    assert "3 earlier runs" in alone.why
    assert alone.ratio is not None
    assert compare(a, b, metric, history).verdict == "better"


def test_earlier_runs_that_do_not_differ_at_all_are_no_division_by_their_spread() -> None:
    def alike(ms: float, run: str) -> list[RoundSummary]:
        return [
            RoundSummary(run=run, round=number, n_ok=40, values={"total_p50_ms": ms}, samples={}, counts={})
            for number in range(10)
        ]

    history = [alike(100.0, f"old {number}") for number in range(3)]
    same = compare(alike(100.0, "a"), alike(100.0, "b"), "total_p50_ms", history)
    assert (same.verdict, same.p) == (SAME, 1.0)
    assert compare(alike(100.0, "a"), alike(50.0, "b"), "total_p50_ms", history).verdict == "better"


def shares(n_failed: int, n: int) -> list[RoundSummary]:
    rows = [row(200 * number) for number in range(n - n_failed)]
    rows += [failed(200 * n, Status.HTTP) for _ in range(n_failed)]
    return [summarise_round(result(rows), run="r", round_=1)]


def test_errors_are_compared_by_their_counts() -> None:
    assert compare(shares(1, 100), shares(3, 100), "error_rate").verdict == SAME
    worse = compare(shares(1, 100), shares(20, 100), "error_rate")
    assert worse.verdict == "worse"
    assert not worse.not_worse
    assert worse.ratio == pytest.approx(20)
    assert compare(shares(20, 100), shares(0, 100), "error_rate").verdict == "better"
    assert compare(shares(0, 100), shares(0, 100), "error_rate").ratio is None


def test_decision_corrects_for_its_number_of_metrics_and_asks_the_guardrails() -> None:
    machine = Machine(10)
    a, b = machine.run([1, 1.3], n_requests=20)
    won = decide(a, b, HEADLINES, guardrails=["error_rate"])
    assert won.verdict == "better"
    assert [each.metric for each in won.comparisons] == list(HEADLINES)
    for corrected in won.comparisons:
        assert corrected.p >= compare(a, b, corrected.metric).p or corrected.verdict == "better"
    slow = [
        each.model_copy(update={"samples": {"total_ms": [3 * value for value in each.samples["total_ms"]]}})
        for each in b
    ]
    held = decide(a, slow, HEADLINES, guardrails=["total_p95_ms"])
    assert held.verdict == SAME
    assert METRICS["total_p95_ms"].label in held.why
    assert decide(b, a, HEADLINES).verdict == "worse"
    a, b = machine.run([1, 1])
    assert decide(a, b, HEADLINES).verdict == SAME


def test_holm_and_benjamini_hochberg_as_in_the_books() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([]) == benjamini_hochberg([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_never_make_a_p_value_smaller(p_values: list[float]) -> None:
    stricter, milder = holm(p_values), benjamini_hochberg(p_values)
    for p, by_holm, by_bh in zip(p_values, stricter, milder, strict=True):
        assert p <= by_bh + 1e-12 <= by_holm + 2e-12 <= 1 + 2e-12
