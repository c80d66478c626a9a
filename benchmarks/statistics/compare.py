"""Is B better than A? By rounds and runs, never by single requests.

All logarithms are signed so that a positive difference is an improvement. A win needs the whole interval beyond the metric's
effect threshold; everything else is "no difference shown".

Paired: rounds of the same run are compared with each other, so what they share (the host, its temperature, its neighbours)
drops out. Student's t on the differences of logarithms, and a bootstrap over the pairs; the interval is the wider of both on
each side, because a bootstrap of six pairs alone is too narrow.

Unpaired: runs at different times differ by themselves. How much is taken from three or more earlier runs of the same
configuration: the rounds inside a run can't tell. Without them an interval is given that assumes 2 %, and no verdict.

Tails (p95, p99): requests pooled, hierarchical bootstrap (rounds, then requests). Shares (errors, attainment): Fisher's exact
test on the counts.
"""

from collections.abc import Sequence

import scipy  # scipy.stats is loaded at its first use: an idle process saves 45 MB

from benchmarks.statistics.intervals import LEVEL
from benchmarks.statistics.medians import Rounds, compare_pairs, compare_runs, pairs_of
from benchmarks.statistics.metrics import METRICS, Metric
from benchmarks.statistics.multiple import holm
from benchmarks.statistics.tails import compare_tails
from benchmarks.statistics.verdicts import NO_DIFFERENCE, Comparison, Decision, Verdict, unknown

ALPHA = 1 - LEVEL


def compare(a: Rounds, b: Rounds, metric: str, history: Sequence[Rounds] = ()) -> Comparison:
    """`history`: earlier runs of A's configuration. Raises KeyError for an unknown metric."""
    asked = METRICS[metric]
    if not a or not b:
        return unknown(asked, "One side has no rounds.")
    if any(metric in each.counts for each in (*a, *b)):
        return _compare_shares(asked, a, b)
    if asked.sample is not None and asked.quantile != 0.5:
        return compare_tails(asked, a, b, history)
    pairs = pairs_of(a, b, metric)
    if pairs:
        return compare_pairs(asked, pairs)
    return compare_runs(asked, a, b, history)


def decide(
    a: Rounds,
    b: Rounds,
    metrics: Sequence[str],
    guardrails: Sequence[str] = (),
    history: Sequence[Rounds] = (),
) -> Decision:
    """One decision on several metrics: p-values by Holm over `metrics`; `guardrails` must not be worse."""
    found = [compare(a, b, each, history) for each in metrics]
    corrected = [
        each if p < ALPHA else each.model_copy(update={"p": p, "verdict": NO_DIFFERENCE})
        for each, p in zip(found, holm([each.p for each in found]), strict=True)
    ]
    guards = [compare(a, b, each, history) for each in guardrails]
    broken = [METRICS[each.metric].label for each in guards if not each.not_worse]
    verdicts = {each.verdict for each in corrected}
    labels = {
        verdict: ", ".join(METRICS[each.metric].label for each in corrected if each.verdict == verdict)
        for verdict in ("better", "worse")
    }
    verdict: Verdict = NO_DIFFERENCE
    why = "No metric shows a difference beyond its threshold."
    if "worse" in verdicts:
        verdict, why = "worse", f"Worse in: {labels['worse']}."
    elif "better" in verdicts and broken:
        why = f"Better in: {labels['better']}; but it is not shown that these hold: {', '.join(broken)}."
    elif "better" in verdicts:
        verdict, why = "better", f"Better in: {labels['better']}."
    return Decision(comparisons=corrected, guardrails=guards, verdict=verdict, why=why)


def _compare_shares(metric: Metric, a: Rounds, b: Rounds) -> Comparison:
    (k_a, n_a), (k_b, n_b) = (_count(metric, each) for each in (a, b))
    if not n_a or not n_b:
        return unknown(metric, "One side has no requests.")
    p = float(scipy.stats.fisher_exact([[k_a, n_a - k_a], [k_b, n_b - k_b]]).pvalue)
    share_a, share_b = k_a / n_a, k_b / n_b
    gain = share_b - share_a if metric.better == "higher" else share_a - share_b
    ratio = low = high = None
    if k_a and k_b:
        risk = scipy.stats.contingency.relative_risk(k_b, n_b, k_a, n_a)
        interval = risk.confidence_interval(LEVEL)
        ratio, low, high = float(risk.relative_risk), float(interval.low), float(interval.high)
    verdict: Verdict = NO_DIFFERENCE if p >= ALPHA else "better" if gain > 0 else "worse"
    return Comparison(
        metric=metric.key, ratio=ratio, low=low, high=high, p=p, verdict=verdict, not_worse=verdict != "worse",
        paired=False, n=n_a + n_b, why=f"{k_a} of {n_a} against {k_b} of {n_b} requests (Fisher's exact test).",
    )  # fmt: skip


def _count(metric: Metric, rounds: Rounds) -> tuple[int, int]:
    counts = [each.counts[metric.key] for each in rounds if metric.key in each.counts]
    return sum(k for k, _ in counts), sum(n for _, n in counts)
