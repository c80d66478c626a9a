"""From exchanges to the columns and the window of a result; the rules are told in result.py."""

from dataclasses import dataclass
from itertools import pairwise

from benchmarks.load.exchange import Exchange
from benchmarks.load.plan import Plan
from benchmarks.load.result import MAX_GAPS, Requests, Status, Window


@dataclass(frozen=True)
class Span:
    """Seconds of `perf_counter`."""

    start: float
    end: float

    def since(self, origin: float) -> Window:
        return Window(start_ms=(self.start - origin) * 1000, end_ms=(self.end - origin) * 1000)


def closed_window(exchanges: list[Exchange], plan: Plan, end: float) -> Span | None:
    """From the end of the last warm-up request to `end`; None: not so many have ended."""
    ends = sorted(each.ended for each in exchanges if each.ended is not None)
    return Span(ends[plan.warmup - 1], end) if len(ends) > plan.warmup else None


def open_window(exchanges: list[Exchange], plan: Plan, stopped: float | None) -> Span | None:
    """From the schedule of the first request after warm-up to one mean gap after the last, or to where it was stopped."""
    assert plan.rate_per_s is not None
    if len(exchanges) <= plan.warmup:
        return None
    end = exchanges[-1].scheduled + 1 / plan.rate_per_s
    return Span(exchanges[plan.warmup].scheduled, end if stopped is None else min(end, stopped))


def mark_measured(exchanges: list[Exchange], plan: Plan, window: Span | None) -> list[bool]:
    if window is None:
        return [False] * len(exchanges)
    if plan.open_loop:
        return [
            number >= plan.warmup and each.status is not Status.CUT for number, each in enumerate(exchanges)
        ]
    return [each.ended is not None and window.start < each.ended <= window.end for each in exchanges]


def as_requests(exchanges: list[Exchange], measured: list[bool], origin: float) -> Requests:
    def ms(at: float | None) -> float | None:
        return None if at is None else round((at - origin) * 1000, 3)

    answers = [each.answer for each in exchanges]
    gaps: list[list[float]] = []
    room = MAX_GAPS
    for each in exchanges:
        mine = [round((after - before) * 1000, 3) for before, after in pairwise(each.content_at)]
        gaps.append(mine if len(mine) <= room else [])
        room -= len(gaps[-1])
    return Requests(
        prompt_id=[each.prompt_id for each in exchanges],
        stream=[each.stream for each in exchanges],
        measured=measured,
        status=[each.status for each in exchanges],
        error=[each.error for each in exchanges],
        http_status=[each.http_status for each in exchanges],
        done_reason=[each.done_reason for each in answers],
        scheduled_ms=[round((each.scheduled - origin) * 1000, 3) for each in exchanges],
        sent_ms=[ms(each.sent) for each in exchanges],
        first_ms=[ms(each.first) for each in answers],
        first_answer_ms=[ms(each.first_answer) for each in answers],
        last_ms=[ms(each.last) for each in answers],
        done_ms=[ms(each.ended if each.answer.done is None else each.answer.done) for each in exchanges],
        n_tokens=[each.n_tokens for each in answers],
        n_prompt=[each.n_prompt for each in answers],
        n_cached=[each.n_cached for each in answers],
        total_duration_ms=[each.total_duration_ms for each in answers],
        load_duration_ms=[each.load_duration_ms for each in answers],
        prompt_duration_ms=[each.prompt_duration_ms for each in answers],
        eval_duration_ms=[each.eval_duration_ms for each in answers],
        gaps_ms=gaps,
    )
