"""Which pages and names may ask, for the embedded engine and the gateway alike: as Ollama decides it."""

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import urlsplit

APPS = frozenset({"app", "file", "tauri", "vscode-file", "vscode-webview"})  # schemes of apps on this machine
HERE = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1"})  # noqa: S104 - a name
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/]+")


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Whether a Host header names this machine or its network: a page of elsewhere could have bound its name to it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # a bracket that is never closed
        return False
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_private
    return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))


@dataclass(frozen=True)
class Origins:
    """`allowed`: as OLLAMA_ORIGINS lists them, beside those of this machine; `*` in one stands for anything."""

    allowed: tuple[str, ...] = ()

    def welcomes(self, origin: str, host: str = "") -> bool:
        """Whether a page of `origin` may ask: one of this machine, an app on it, one of the very address that it asks
        (`host`), or one that is allowed."""
        try:
            found = urlsplit(origin)
            name = found.hostname
        except ValueError:
            return False
        if name in HERE or found.scheme in APPS or (host and found.netloc == host):
            return True
        return bool(self._allowed and self._allowed.fullmatch(origin))

    @cached_property
    def _allowed(self) -> re.Pattern[str] | None:
        if not self.allowed:
            return None
        return re.compile("|".join(re.escape(each).replace(r"\*", ".*") for each in self.allowed))
