"""JSON to an address of one's own, signed as https://www.standardwebhooks.com says, so that any of its libraries checks it."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from yarl import URL

from monitoring.channels.base import Channel, Notice, secret, tls_context
from monitoring.channels.http import post

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(signing_secret: str) -> bytes:
    """The bytes to sign with: base64 after PREFIX. Raises ValueError when there are fewer than 16."""
    try:
        key = base64.b64decode(signing_secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("it is no base64") from error
    if not signing_secret.startswith(PREFIX) or len(key) < 16:
        raise ValueError(f"it is not {PREFIX} and at least 16 bytes")
    return key


@dataclass(kw_only=True, eq=False)
class WebhookChannel(Channel):
    name = "webhook"

    url: str = secret()  # often a secret itself: who knows it can post there
    signing_secret: str = secret()
    authorization: str = secret()
    ca: str = ""

    def send(self, notice: Notice) -> None:
        body = json.dumps(notice.payload(), separators=(",", ":")).encode()
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "AICleaner-Performance",
            "Idempotency-Key": notice.key,
            **self._signature(notice.key, int(now.timestamp()), body),
            **({"Authorization": self.authorization} if self.authorization else {}),
        }
        post(self.url, body, headers, tls_context(self.ca), now)

    def _signature(self, key: str, at: int, body: bytes) -> dict[str, str]:
        signed = f"{key}.{at}.".encode() + body
        digest = hmac.new(key_of(self.signing_secret), signed, hashlib.sha256).digest()
        return {
            "webhook-id": key,
            "webhook-timestamp": str(at),
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }

    @property
    def target(self) -> str:
        return str(URL(self.url).origin()) if self.url else ""
