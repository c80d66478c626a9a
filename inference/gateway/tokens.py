"""What an API key is made of, and how it is recognised without being kept.

A key holds 256 random bits, so nobody finds one by trying: the slow hashes that passwords need would only cost each request
their time. The hash takes the installation's secret as its key: who reads the database, the file of the gateway or Valkey
can neither check a guess nor put a key of his own there."""

import hashlib
import hmac
import re
import secrets

PREFIX = "aic-"
SHOWN = 8  # characters after the prefix that stay readable, for recognition: 208 bits remain
_SHAPE = re.compile(rb"aic-[A-Za-z0-9_-]{20,200}\Z")


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def gateway_secret(secret_key: str) -> bytes:
    """What the console and the gateway share, from the secret key of the installation."""
    return hmac.digest(secret_key.encode(), b"aicleaner: API keys of the gateway", "sha256")


def digest_of(token: bytes, secret: bytes) -> bytes:
    return hashlib.blake2b(token, key=secret, digest_size=32).digest()


def internal_token(secret: bytes) -> str:
    """With which the product's own parts ask the gateway."""
    return f"{PREFIX}internal-{hmac.digest(secret, b'the product itself', 'sha256').hex()}"


def token_in(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request brings, as clients of OpenAI and Ollama send it (`Authorization: Bearer`) or those of Anthropic
    (`x-api-key`). None: none, or a credential that is meant for the engine."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, text = value.strip().partition(b" ")
            text = text.strip() if scheme.lower() == b"bearer" else b""
        elif name == b"x-api-key":
            text = value.strip()
        else:
            continue
        if text.startswith(PREFIX.encode()):
            return text
    return None


def has_shape(token: bytes) -> bool:
    """Whether it may be a key: anything else is not even hashed."""
    return _SHAPE.match(token) is not None
