"""The contract of a channel."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True)
class Notice:
    """What is to be told. `key` (`episode:event:seq:channel`) is the same over all attempts: a receiver that knows it
    has this notice already. `attempt` counts from 1; only from 2 on an earlier one may have arrived."""

    key: str
    event: str
    alert_id: int
    severity: str
    labels: dict[str, str]
    text: str
    at: datetime
    attempt: int


class ChannelError(Exception):
    """It was not delivered. `permanent`: trying again is no use. `retry_after_s`: the receiver asked for this pause."""

    def __init__(self, text: str, *, permanent: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.permanent, self.retry_after_s = permanent, retry_after_s


class Channel:
    """Delivers one notice at a time, called in several threads and processes at once."""

    name: ClassVar[str]

    def send(self, notice: Notice) -> None:
        """Return once the receiver has it; raise ChannelError (any other error counts as one that may pass).

        It ends by its own time-outs within LEASE_S of monitoring.alerts.deliveries; after that the notice is sent
        again."""
        raise NotImplementedError
