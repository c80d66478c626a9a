"""Token buckets: how much may be taken at once, and how fast more comes. The clock is an argument, in seconds; it may stand
still or run backwards, and then nothing comes."""


class Bucket:
    """Holds what a minute allows, at most, and fills at that rate: within t seconds `per_minute * (1 + t / 60)` at most is
    taken by `take`. What is known afterwards only is charged, below nothing if need be."""

    __slots__ = ("_at", "level", "per_minute")

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute, self.level, self._at = per_minute, float(per_minute), now

    def take(self, amount: float, now: float) -> bool:
        """Whether all of it was there; else nothing is taken."""
        self._fill(now)
        if self.level < amount:
            return False
        self.level -= amount
        return True

    def charge(self, amount: float, now: float) -> None:
        self._fill(now)
        self.level -= amount

    def wait_s(self, amount: float, now: float) -> float:
        """Until `amount` is there, if nobody else takes of it; more than the bucket holds never is."""
        self._fill(now)
        return max(amount - self.level, 0.0) / self.per_minute * 60

    def left(self, now: float) -> float:
        self._fill(now)
        return self.level

    def resize(self, per_minute: float, now: float) -> None:
        """Another limit from now on. A change fills nothing: a larger bucket fills in its time."""
        self._fill(now)
        self.per_minute = per_minute
        self.level = min(self.level, per_minute)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self.level = min(self.level + (now - self._at) * self.per_minute / 60, self.per_minute)
            self._at = now
