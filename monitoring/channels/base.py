"""The contract of a channel, and what all of them share."""

import re
import ssl
import time
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

from safeguards.addresses import AddressError, UnknownHostError

LEAST_PART = 6  # characters of a part of an address that may be a secret


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
    group: tuple[str, ...] = ()  # keys of the notices that this one tells together; (): it is one
    link: str = ""  # to its page; '' where nobody has said how the console is reached

    def payload(self) -> dict[str, Any]:
        """As JSON for programs, the same over all attempts."""
        found = asdict(self)
        del found["attempt"]
        return {**found, "at": self.at.isoformat(), "group": list(self.group)}

    @property
    def title(self) -> str:
        what = f"{len(self.group)} alerts" if self.group else self.labels.get("rule", "alert")
        return f"[{self.severity}] {self.event}: {what}"

    @property
    def text_with_link(self) -> str:
        return f"{self.text}\n{self.link}" if self.link else self.text

    @property
    def thread(self) -> str:
        """What a later notice of the same alert has in common with it; one of several alerts stands alone."""
        return self.key.replace(":", ".") if self.group else str(self.alert_id)


class ChannelError(Exception):
    """It was not delivered. `permanent`: trying again is no use. `retry_after_s`: the receiver asked for this pause."""

    def __init__(self, text: str, *, permanent: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.permanent, self.retry_after_s = permanent, retry_after_s


def refused(error: AddressError) -> ChannelError:
    """A name that nobody knows may be known later; an address that is not allowed stays so."""
    return ChannelError(str(error), permanent=not isinstance(error, UnknownHostError))


def secret() -> str:
    """A field that is stored sealed and never shown; '' when there is none."""
    return field(default="", repr=False, metadata={"secret": True})


@dataclass(kw_only=True, eq=False)
class Channel:
    """Delivers one notice at a time, called in several threads and processes at once. Its fields are its settings."""

    name: ClassVar[str]  # of the kind

    def send(self, notice: Notice) -> None:
        """Return once the receiver has it; raise ChannelError (any other error counts as one that may pass).

        It ends by its own time-outs within LEASE_S of monitoring.alerts.deliveries; after that the notice is sent
        again."""
        raise NotImplementedError

    @property
    def target(self) -> str:
        """Where it sends, for the page: without secrets."""
        return ""

    @classmethod
    def secret_names(cls) -> tuple[str, ...]:
        return tuple(each.name for each in fields(cls) if each.metadata.get("secret"))

    def without_secrets(self, text: str) -> str:
        """`text` with every secret of this channel blotted out, also the parts of an address but its host: libraries
        and receivers quote addresses and headers in their errors."""
        found: set[str] = set()
        for value in (str(getattr(self, name)) for name in self.secret_names()):
            parts = {part for part in re.split(r"[/?&=:@#, ]+", value) if len(part) >= LEAST_PART}
            found |= {value, *(parts - {_host_of(value)})}
        for each in sorted(filter(None, found), key=len, reverse=True):
            text = text.replace(each, "…")
        return text


def _host_of(value: str) -> str | None:
    try:
        return urlsplit(value).hostname
    except ValueError:
        return None


def tls_context(ca: str) -> ssl.SSLContext:
    """Checks certificates against the system's authorities and `ca` (PEM; '': none more). Raises ssl.SSLError.

    Not to be changed: it is shared for up to an hour. To read the system's authorities takes 50 ms, more than all else
    that a delivery costs."""
    return _tls_context(ca, int(time.monotonic() // 3600))


@lru_cache(maxsize=32)
def _tls_context(ca: str, hour: int) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cadata=ca)
    return context
