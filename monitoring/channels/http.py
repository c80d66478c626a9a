"""One request to where a person wants it: to a checked address, no redirects, bounded in time and size."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from monitoring.channels.base import ChannelError, refused
from safeguards.addresses import AddressError, resolve

TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=5)
MAX_ANSWER = 64 * 1024  # bytes; more is not read
MAX_QUOTED = 200  # characters of an error's answer
PASSING = frozenset((408, 425, 429))  # of the 4xx: the same may be taken later


class _Checked(AbstractResolver):
    """Answers with the addresses that were checked, so that none that wasn't is connected to."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for each in self.addresses
        ]

    async def close(self) -> None:
        pass


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    text: str
    retry_after: str


def post(url: str, body: bytes, headers: dict[str, str], tls: ssl.SSLContext, now: datetime) -> None:
    """Return once the receiver has answered 2xx. Raises ChannelError."""
    _send("POST", url, body, headers, tls, now)


def get(url: str, tls: ssl.SSLContext, now: datetime) -> None:
    """Return once it has answered 2xx; what it says is of no interest. Raises ChannelError."""
    _send("GET", url, None, {}, tls, now)


def _send(
    method: str, url: str, body: bytes | None, headers: dict[str, str], tls: ssl.SSLContext, now: datetime
) -> None:
    parsed = URL(url)
    try:
        addresses = resolve(parsed.host or "", parsed.port or 0)
    except AddressError as error:
        raise refused(error) from error
    try:
        answer = asyncio.run(_ask(method, parsed, body, headers, tls, addresses))
    except TimeoutError as error:
        raise ChannelError(f"{parsed.host} gave no answer within {TIMEOUT.total:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ChannelError(f"{parsed.host}: {error or type(error).__name__}") from error
    if 200 <= answer.status < 300:
        return
    said = f"{answer.status} {answer.reason}".strip()
    if 300 <= answer.status < 400:
        raise ChannelError(f"{said}: redirects are not followed; give the final address", permanent=True)
    text = " ".join(answer.text.split())[:MAX_QUOTED]
    raise ChannelError(
        f"{said}: {text}" if text else said,
        permanent=400 <= answer.status < 500 and answer.status not in PASSING,
        retry_after_s=seconds_of(answer.retry_after, now),
    )


async def _ask(
    method: str,
    url: URL,
    body: bytes | None,
    headers: dict[str, str],
    tls: ssl.SSLContext,
    addresses: list[str],
) -> Answer:
    connector = aiohttp.TCPConnector(resolver=_Checked(addresses), ssl=tls, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, trust_env=False) as session,
        session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        text = (await answer.content.read(MAX_ANSWER)).decode(errors="replace")
        return Answer(answer.status, answer.reason or "", text, answer.headers.get("Retry-After", ""))


def seconds_of(retry_after: str, now: datetime) -> float:
    """Retry-After, which is seconds or a date, as seconds from `now`; 0 when it is neither."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp(), 0.0)
