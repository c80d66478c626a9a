"""Secrets, encrypted under keys derived from the product's secret key, one for each purpose: the database and its copies
don't tell them."""

import base64
import json

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils.encoding import force_bytes


class SealError(Exception):
    """The secrets were sealed under another secret key."""


class Seal:
    """`purpose`: what is sealed for one does not open for another."""

    def __init__(self, purpose: bytes) -> None:
        self._purpose = purpose

    def seal(self, secrets: dict[str, str]) -> str:
        """'' when there are none."""
        return self._box().encrypt(json.dumps(secrets).encode()).decode() if secrets else ""

    def unseal(self, sealed: str) -> dict[str, str]:
        """Raises SealError."""
        if not sealed:
            return {}
        try:
            return dict(json.loads(self._box().decrypt(sealed.encode())))
        except InvalidToken as error:
            raise SealError(
                "its secrets were stored under another secret key of the product: enter them again, or bring the key back"
            ) from error

    def keys(self) -> list[str]:
        """Fernet keys by which a process without the secret key opens what is sealed for this purpose; the first is the one in
        use."""
        return [self._key(each) for each in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]

    def _box(self) -> MultiFernet:
        return MultiFernet([Fernet(key) for key in self.keys()])

    def _key(self, secret_key: str | bytes) -> str:
        kdf = HKDF(SHA256(), length=32, salt=None, info=self._purpose)
        return base64.urlsafe_b64encode(kdf.derive(force_bytes(secret_key))).decode()


channel_secrets = Seal(b"aicleaner channel secrets")
engine_secrets = Seal(b"aicleaner engine secrets")
