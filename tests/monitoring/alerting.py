"""What tests of alerts share: a rule, samples, and a clock that they move."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from monitoring.alerts import deliveries, tending
from monitoring.alerts.loop import AlertLoop
from monitoring.channels import CHANNELS, Channel, ChannelError, Notice
from monitoring.models import Rule

T0 = 1_800_000_000.0
HOST = "box"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(T0 + seconds, UTC)


def make_rule(**values: Any) -> Rule:
    """`heat`, above 90, at once, clear below 85 at once; no cooldown."""
    given: dict[str, Any] = {
        "name": "Heat",
        "series": "heat_percent",
        "window_s": 1,
        "fire_at": 90,
        "clear_at": 85,
        "for_s": 0,
        "keep_firing_for_s": 0,
        "cooldown_s": 0,
    }
    return Rule.objects.create(**{**given, **values})


def sample(seconds: float, **values: float | None) -> dict[str, Any]:
    return {"at": T0 + seconds, "v": {"heat_percent": None, **values}}


class Bench:
    """A collector's alert loop and a worker, driven by hand; `now` is in seconds after T0."""

    def __init__(self) -> None:
        self.loop, self.now = AlertLoop(HOST), 0.0

    def heat(self, *values: float | None, **others: float | None) -> None:
        """A value a second, evaluated."""
        for value in values:
            self.now += 1
            self.loop.feed(sample(self.now, heat_percent=value, **others))
            while self.loop.waiting and self.loop.take_next():
                pass

    def restart(self) -> None:
        self.loop = AlertLoop(HOST)

    def work(self, seconds: float = 0.0) -> None:
        """What the worker does at `seconds` later."""
        self.now += seconds
        tending.tend(self.clock())
        deliveries.deliver_due(self.clock)

    def clock(self) -> datetime:
        return at(self.now)


class TestChannel(Channel):
    """Keeps what it got; fails while `error` is set."""

    __test__ = False
    name = "test"

    def __init__(self) -> None:
        self.got: list[Notice] = []
        self.n_tried = 0
        self.error: Exception | None = None

    def send(self, notice: Notice) -> None:
        self.n_tried += 1
        if self.error is not None:
            raise self.error
        self.got.append(notice)

    @property
    def events(self) -> list[str]:
        return [notice.event for notice in self.got]


@contextmanager
def only_channel(channel: Channel) -> Iterator[None]:
    """`channel` in place of all others of the registry."""
    before = dict(CHANNELS)
    CHANNELS.clear()
    CHANNELS[channel.name] = channel
    try:
        yield
    finally:
        CHANNELS.clear()
        CHANNELS.update(before)


__all__ = ["HOST", "T0", "Bench", "ChannelError", "TestChannel", "at", "make_rule", "only_channel", "sample"]
