"""Every metric by its key: label, unit, formula, which way is better, and the effect below which a difference is none.

Instants as in `benchmarks.load.result`: t0 scheduled, ts sent, t1 first content, tc first answer content, tn last content,
td done; N tokens of the answer as the server counts them. Other tools use the same names for other formulas, so pages show
ours.
"""

from dataclasses import dataclass
from typing import Literal

THROUGHPUT, MEDIAN, TAIL = 0.03, 0.05, 0.10


@dataclass(frozen=True)
class Metric:
    """`effect`: relative difference that a comparison has to exceed. `sample`: name of the distribution it is a quantile of."""

    key: str
    label: str
    unit: str
    formula: str
    better: Literal["higher", "lower"]
    effect: float
    sample: str | None = None
    quantile: float | None = None


@dataclass(frozen=True)
class Sample:
    """A quantity that each request (or gap) has one value of."""

    key: str
    label: str
    unit: str
    formula: str
    better: Literal["higher", "lower"] = "lower"


SAMPLES: dict[str, Sample] = {
    each.key: each
    for each in (
        Sample("ttft_ms", "TTFT", "ms", "t1 − ts; in an open loop t1 − t0, so that waiting to be sent counts."),
        Sample("ttft_sent_ms", "TTFT from sending", "ms", "t1 − ts, whatever the schedule was."),
        Sample(
            "answer_ttft_ms", "Answer TTFT", "ms",
            "tc − ts, in an open loop tc − t0: first text or tool call, thinking not counted.",
        ),
        Sample("total_ms", "End to end", "ms", "td − ts; in an open loop td − t0."),
        Sample("total_sent_ms", "End to end from sending", "ms", "td − ts, whatever the schedule was."),
        Sample(
            "tpot_ms", "Time per output token", "ms", "(tn − t1) / (N − 1) for answers of two tokens or more."
        ),
        Sample("gap_ms", "Gap", "ms", "t[i] − t[i−1] between chunks with content, of all requests together."),
        Sample("schedule_lag_ms", "Schedule lag", "ms", "ts − t0: how late the load generator itself sent."),
        Sample(
            "decode_tokens_per_s", "Decode rate", "tokens/s", "eval_count / eval_duration, as the server tells.",
            "higher",
        ),
        Sample(
            "prefill_tokens_per_s", "Prefill rate", "tokens/s",
            "(prompt_eval_count − cached) / prompt_eval_duration; where the cached count is not told, each prompt"
            " starts with a number of its own.",
            "higher",
        ),
        Sample(
            "overhead_ms", "Queue and overhead", "ms",
            "total − load − prompt_eval − eval durations, as the server tells.",
        ),
    )
}  # fmt: skip


def _quantiles(sample: str, *quantiles: int) -> list[Metric]:
    source = SAMPLES[sample]
    stem, unit = sample.rsplit("_ms", 1)[0], source.unit
    return [
        Metric(
            f"{stem}_p{each}_ms",
            f"{source.label}, {'median' if each == 50 else f'p{each}'}",
            unit,
            source.formula,
            source.better,
            MEDIAN if each == 50 else TAIL,
            sample,
            each / 100,
        )
        for each in quantiles
    ]


def _median_rate(sample: str) -> Metric:
    source = SAMPLES[sample]
    return Metric(
        sample, f"{source.label}, median", source.unit, source.formula, source.better, THROUGHPUT, sample, 0.5
    )


METRICS: dict[str, Metric] = {
    each.key: each
    for each in (
        *_quantiles("ttft_ms", 50, 95, 99),
        *_quantiles("ttft_sent_ms", 50, 95, 99),
        *_quantiles("answer_ttft_ms", 50, 95, 99),
        *_quantiles("total_ms", 50, 95, 99),
        *_quantiles("total_sent_ms", 50, 95, 99),
        *_quantiles("tpot_ms", 50, 95, 99),
        *_quantiles("gap_ms", 50, 95, 99),
        _median_rate("decode_tokens_per_s"),
        _median_rate("prefill_tokens_per_s"),
        *_quantiles("overhead_ms", 50, 95),
        Metric(
            "output_tokens_per_s", "Output rate", "tokens/s",
            "Tokens that arrived inside the window / window; a request's N is spread over its chunks.",
            "higher", THROUGHPUT,
        ),
        Metric(
            "requests_per_s", "Requests", "1/s", "Requests that ended well inside the window / window.",
            "higher", THROUGHPUT,
        ),
        Metric(
            "goodput_per_s", "Goodput", "1/s", "Requests that kept every limit of the SLO / window.",
            "higher", THROUGHPUT,
        ),
        Metric(
            "attainment", "SLO attainment", "",
            "Requests that kept every limit of the SLO / (completed + errors); interval by Wilson.",
            "higher", THROUGHPUT,
        ),
        Metric("error_rate", "Errors", "", "Failed / (completed + failed); interval by Wilson.", "lower", TAIL),
        *_quantiles("schedule_lag_ms", 50, 99),
        Metric(
            "joules_per_token", "Energy per token", "J", "Integral of GPU power over the window / tokens in it.",
            "lower", THROUGHPUT,
        ),
        Metric(
            "net_joules_per_token", "Energy per token above idle", "J",
            "Integral of GPU power minus idle power over the window / tokens in it.",
            "lower", THROUGHPUT,
        ),
        Metric(
            "cost_per_mtok", "Cost per million tokens", "",
            "(kWh of the GPUs × tariff + amortised hardware) / tokens × 1,000,000, in the tariff's currency; of a cloud its"
            " list price of prompts and answers / tokens of answers × 1,000,000, in USD.",
            "lower", THROUGHPUT,
        ),
    )
}  # fmt: skip
