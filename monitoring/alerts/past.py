"""What the store knows of the time before an evaluator starts, so that it doesn't begin with nothing."""

from monitoring import selectors
from monitoring.alerts.evaluator import Evaluator
from monitoring.store.rollups import RAW_S

LOOK_BACK_S = 60  # at least, for the newest sample


def prime_from_store(evaluator: Evaluator, at: int, names: list[str]) -> int:
    """Fill the signals with what was before `at` of the series `names`; returns the first second after all of it."""
    histories = evaluator.histories(names)
    seconds, wanted = histories.pop(RAW_S, (0, set()))
    seconds = max(seconds, LOOK_BACK_S)
    answer = selectors.query(
        evaluator.host, sorted(wanted or names), at - seconds, at, points=seconds, tier=RAW_S
    )
    evaluator.prime(RAW_S, answer.start, at, answer.series)
    newest = max((buckets.newest() for buckets in answer.series.values()), default=-1)
    for tier, (span, found) in histories.items():
        coarse = selectors.query(evaluator.host, sorted(found), at - span, at, points=span, tier=tier)
        evaluator.prime(tier, coarse.start, at, coarse.series)
    return answer.start + newest + 1
