"""How the gateway connects: connections that are kept, and fresh ones for a second try; to the engines of the settings
wherever they are, to those that people added at allowed addresses only."""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from safeguards.addresses import AddressError, check_address


class RefusedAddressError(OSError):
    """Nothing is sent there, and why."""


class GuardedResolver(AbstractResolver):
    """Gives allowed addresses only: the one that was checked is the one connected to."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        for each in found:
            try:
                check_address(each["host"])
            except AddressError as error:
                raise RefusedAddressError(str(error)) from error
        return found

    async def close(self) -> None:
        await self._names.close()


def check_number(url: str) -> None:
    """Raises AddressError for an address in numbers that is not allowed: no resolver is asked for those."""
    host = (urlsplit(url).hostname or "").partition("%")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # a name: it is checked as it is looked up
    check_address(host)


class Sessions:
    """Open it within the loop. `added`: whether a person gave the engine's address."""

    def __init__(self, silent_s: float) -> None:
        """`silent_s`: seconds without a byte after which an engine counts as hanging."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        options: dict[str, Any] = {
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silent_s),
            "auto_decompress": False,
            "cookie_jar": aiohttp.DummyCookieJar(),  # a client's cookies are its own
            "skip_auto_headers": ("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        }

        def session(*, fresh: bool, guarded: bool) -> aiohttp.ClientSession:
            more: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": 30}
            if guarded:
                more["resolver"] = GuardedResolver()
            connector = aiohttp.TCPConnector(limit=0, **more)
            return aiohttp.ClientSession(
                connector=connector, trace_configs=None if fresh else [trace], **options
            )

        # The second try of a request must not meet another connection that went stale with the first.
        self._own = session(fresh=False, guarded=False), session(fresh=True, guarded=False)
        self._added = session(fresh=False, guarded=True), session(fresh=True, guarded=True)

    def both(self, *, added: bool) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:
        """(kept connections, fresh ones)"""
        return self._added if added else self._own

    async def close(self) -> None:
        for each in (*self._own, *self._added):
            await each.close()


async def _note_reuse(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:  # our own questions to the engine bring none
        context.trace_request_ctx["reused"] = True
