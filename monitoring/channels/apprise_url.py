"""Everything that Apprise knows (https://github.com/caronc/apprise), behind one of its URLs."""

from dataclasses import dataclass
from typing import Any

from monitoring.channels.base import Channel, ChannelError, Notice, secret
from monitoring.guard import only_allowed_addresses
from safeguards.addresses import AddressError, UnknownHostError, resolve

TOTAL_S = 30.0
LEVELS = {"critical": "failure", "warning": "warning"}


class AppriseUrlError(ValueError):
    """Its text says what is wrong with the URL, without quoting it."""


def service_of(url: str) -> Any:
    """The service that `url` names. Raises AppriseUrlError.

    Apprise connects by itself: its host is checked here, so that a wrong one is said at once, and what it connects to in
    the end is held to the same rules by monitoring.guard."""
    service = _parse(url)
    if service.redirects:
        raise AppriseUrlError("Leave redirect= out: redirects are not followed.")
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
        with only_allowed_addresses() as refused:
            told = sender.notify(
                title=notice.title,
                body=notice.text_with_link,
                notify_type=NotifyType(
                    "success" if notice.event == "resolved" else LEVELS.get(notice.severity, "info")
                ),
                timeout=TOTAL_S,
            )
        if not told and refused:
            raise ChannelError(str(refused[0]), permanent=True)
        if not told:
            said = "; ".join(entry.message for entry in told.logs())
            raise ChannelError(f"{service.service_name}: {said or 'it was not delivered'}")

    @property
    def target(self) -> str:
        return str(_parse(self.url).service_name)
