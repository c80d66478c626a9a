"""Everything that Apprise knows (https://github.com/caronc/apprise), behind one of its URLs."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from monitoring.addresses import AddressError, UnknownHostError, resolve
from monitoring.channels.base import Channel, ChannelError, Notice, secret

MOST_S = 20.0  # of Apprise's own time-outs, so that a send ends within its lease
LEVELS = {"critical": "failure", "warning": "warning"}
library_log = logging.getLogger("apprise")


class AppriseUrlError(ValueError):
    """Its text says what is wrong with the URL, without quoting it."""


def service_of(url: str) -> Any:
    """The service that `url` names. Raises AppriseUrlError.

    Apprise connects by itself: a host name is checked here, but may stand for another address a moment later."""
    service = _parse(url)
    if service.redirects:
        raise AppriseUrlError("Leave redirect= out: redirects are not followed.")
    if sum(filter(None, (service.socket_connect_timeout, service.socket_read_timeout))) > MOST_S:
        raise AppriseUrlError(f"Give cto= and rto= of {MOST_S:g} s together at most.")
    if service.retry:
        raise AppriseUrlError("Leave retry= out: what fails is tried again from here.")
    if host := getattr(service, "host", None):
        try:
            resolve(host, getattr(service, "port", None) or 443)
        except UnknownHostError:
            pass  # in many URLs a token stands where a host would
        except AddressError as error:
            raise AppriseUrlError(str(error)) from error
    return service


def _parse(url: str) -> Any:
    from apprise import Apprise, AppriseAsset  # 30 MB that only this channel needs

    service = Apprise.instantiate(
        url, asset=AppriseAsset(http_redirects=False, app_id="AICleaner"), suppress_exceptions=True
    )
    if service is None:
        raise AppriseUrlError(
            "Apprise does not know such a URL; https://github.com/caronc/apprise lists them, e.g. ntfy://topic."
        )
    return service


@dataclass(kw_only=True, eq=False)
class AppriseChannel(Channel):
    name = "apprise"

    url: str = secret()

    def send(self, notice: Notice) -> None:
        from apprise import Apprise, NotifyType

        try:
            service = service_of(self.url)
        except AppriseUrlError as error:
            raise ChannelError(str(error), permanent=True) from error
        sender = Apprise()
        sender.add(service)
        with _said_by_this_thread() as said:
            told = sender.notify(
                title=notice.title,
                body=notice.text,
                notify_type=NotifyType(
                    "success" if notice.event == "resolved" else LEVELS.get(notice.severity, "info")
                ),
            )
        if not told:
            raise ChannelError(f"{service.service_name}: {'; '.join(said) or 'it was not delivered'}")

    @property
    def target(self) -> str:
        return str(_parse(self.url).service_name)


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread, self.said = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.said.append(record.getMessage())


@contextmanager
def _said_by_this_thread() -> Iterator[list[str]]:
    """Apprise tells why it failed to its log only."""
    handler = _Keep()
    library_log.addHandler(handler)
    try:
        yield handler.said
    finally:
        library_log.removeHandler(handler)
