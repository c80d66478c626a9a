"""E-mail over SMTP, with STARTTLS or TLS from the start."""

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from monitoring.channels.base import Channel, ChannelError, Notice, refused, secret, tls_context
from safeguards.addresses import AddressError, connect

STEP_S, TOTAL_S = 10.0, 40.0
SECURITIES = (
    ("starttls", "STARTTLS (mostly port 587)"),
    ("tls", "TLS from the start (mostly port 465)"),
    ("none", "not encrypted (only without a password)"),
)


class _Smtp(smtplib.SMTP):
    """Connects to an address that was checked."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return connect(host, port, timeout)


class _SmtpTls(smtplib.SMTP_SSL):
    context: ssl.SSLContext

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self.context.wrap_socket(connect(host, port, timeout), server_hostname=host)


@dataclass(kw_only=True, eq=False)
class MailChannel(Channel):
    """The same Message-ID over all attempts: most mail systems show such a message once."""

    name = "mail"

    host: str
    port: int
    security: str = "starttls"
    user: str = ""
    password: str = secret()
    sender: str
    recipients: list[str] = field(default_factory=list)
    ca: str = ""

    def send(self, notice: Notice) -> None:
        try:
            with self._session() as smtp:
                left_out = smtp.send_message(self._message(notice), self.sender, self.recipients)
        except AddressError as error:
            raise refused(error) from error
        except smtplib.SMTPRecipientsRefused as error:
            left_out = error.recipients
        except smtplib.SMTPResponseException as error:
            # SMTP says 5xx for what won't change; a refused password is one, and trying on locks accounts.
            said = f"{self.host}: {error.smtp_code} {_text(error.smtp_error)}"
            raise ChannelError(said, permanent=500 <= error.smtp_code < 600) from error
        except (smtplib.SMTPException, OSError) as error:
            raise ChannelError(f"{self.host}: {error or type(error).__name__}") from error
        if left_out:
            who = "; ".join(f"{each}: {code} {_text(why)}" for each, (code, why) in left_out.items())
            permanent = all(code >= 500 for code, _ in left_out.values())
            raise ChannelError(f"{self.host} refused {who}", permanent=permanent)

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        tls = tls_context(self.ca)
        smtp: smtplib.SMTP = (
            _SmtpTls(context=tls, timeout=STEP_S) if self.security == "tls" else _Smtp(timeout=STEP_S)
        )
        smtp._host = self.host  # type: ignore[attr-defined]  # the name that the certificate is checked for
        timer = threading.Timer(TOTAL_S, _cut, [smtp])  # a server that drips never runs into STEP_S
        timer.start()
        try:
            smtp.connect(self.host, self.port)
            if self.security == "starttls":
                smtp.starttls(context=tls)
            if self.user:
                smtp.login(self.user, self.password)
            yield smtp
            smtp.quit()
        finally:
            timer.cancel()
            smtp.close()

    def _message(self, notice: Notice) -> EmailMessage:
        domain = self.sender.rpartition("@")[2]
        episode = f"<{notice.thread}.aicleaner@{domain}>"
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message["Subject"] = f"{notice.title}: {' '.join(notice.text.split())}"[:150]
        message["Date"] = format_datetime(notice.at)
        message["Message-ID"] = (
            f"<{notice.key.replace(':', '.')}.{notice.at:%Y%m%d%H%M%S}.aicleaner@{domain}>"
        )
        message["References"] = episode  # all of an episode in one thread
        message["Auto-Submitted"] = "auto-generated"
        message["X-AICleaner-Key"] = notice.key
        labels = "".join(f"{label}: {value}\n" for label, value in sorted(notice.labels.items()))
        said = f"{notice.text_with_link}\n\nseverity: {notice.severity}\n{labels}key: {notice.key}\n"
        message.set_content(said)
        return message

    @property
    def target(self) -> str:
        return f"{', '.join(self.recipients)} by {self.host}:{self.port}"


def _cut(smtp: smtplib.SMTP) -> None:
    found: Any = smtp.sock
    if found is not None:
        socket.socket.shutdown(found, socket.SHUT_RDWR)


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
