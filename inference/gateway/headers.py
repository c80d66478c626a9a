"""Headers on their way to the engine, and who may ask."""

import ipaddress
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlsplit

from inference.gateway.meter import Meter

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"host content-length expect".split()
)
CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
# Origins of apps on this machine, as Ollama welcomes them; others of this machine are known by their host.
APPS = frozenset({"app", "file", "tauri", "vscode-file", "vscode-webview"})
# Each gateway marks what it sends, so that one that is its own engine, by whatever name, notices.
MARK = b"x-aicleaner-gateway"


def outgoing(headers: list[tuple[bytes, bytes]], meter: Meter) -> list[tuple[str, str]]:
    """The client's headers without those of its connection; an answer that is looked into comes unencoded."""
    left_out = HOP_BY_HOP
    for name, value in headers:
        if name == b"connection" and value.lower() not in {b"keep-alive", b"close"}:
            left_out = left_out | {each.strip().lower() for each in value.split(b",")}
    if meter.counted:
        left_out = left_out | {b"accept-encoding"}
    if meter.hides_credentials:
        left_out = left_out | CREDENTIALS
    return [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in left_out
    ]


def is_welcome(origin: str) -> bool:
    """Whether a page of this origin may have, and read, what the gateway answers without asking a local engine, which has
    rules of its own."""
    try:
        found = urlsplit(origin)
        host = found.hostname
    except ValueError:
        return False
    return found.scheme in APPS or host in {"localhost", "127.0.0.1", "0.0.0.0", "::1"}  # noqa: S104 - a name


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Whether a Host header names this machine or its network. A client without one is no browser, which alone could be
    deceived by a name: Ollama serves it too."""
    if not host:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # a bracket that is never closed
        return False
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_private
    return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))
