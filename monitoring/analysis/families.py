"""Many tests at one time: how many may be believed. No Django in here."""

from collections.abc import Sequence


def believed(ps: Sequence[float], q: float, most: float = 1.0) -> list[bool]:
    """Benjamini & Hochberg (1995): of those that are believed, a share of `q` is expected to be false, under the positive
    dependence that series of one machine have. Where nothing is true, the chance of believing anything is `q`. None with a
    p above `most` is believed."""
    n = len(ps)
    limit = 0.0
    for place, p in enumerate(sorted(ps), 1):
        if p <= q * place / n:
            limit = p
    return [p <= min(limit, most) if limit else p == 0.0 for p in ps]
