"""When requests are due."""

import itertools
import random
from collections.abc import Iterator


def arrival_times(rate_per_s: float, arrivals: str, seed: int) -> Iterator[float]:
    """Seconds from the start, without end: every 1 / rate, or by a Poisson process of that rate."""
    if arrivals == "constant":
        yield from (number / rate_per_s for number in itertools.count())
    random_ = random.Random(f"arrivals {seed}")
    at = 0.0
    while True:
        yield at
        at += random_.expovariate(rate_per_s)


def think_times(mean_s: float, user: int, seed: int) -> Iterator[float]:
    """Seconds that a user waits before each request, the first included: exponential with that mean."""
    random_ = random.Random(f"thinks {seed} {user}")
    while True:
        yield random_.expovariate(1 / mean_s) if mean_s else 0.0
