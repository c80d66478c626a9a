"""Where a request comes from: this machine, its own proxy, or elsewhere; and how often wrong keys came from there."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache

from inference.gateway.buckets import Bucket

# Whoever passes requests on says so by one of these; it is believed to the caller's disadvantage only.
FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"forwarded", b"via"})
WRONG_PER_MINUTE = 30  # keys from one address; a person with an old key in a script stays below
MAX_ADDRESSES = 10_000
V6_PREFIX = 64  # one line has as many addresses as it likes

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=4096)
def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for what is no address; an IPv4 one that is written as IPv6 is itself."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def is_loopback(text: str) -> bool:
    """Of an address, or a name to listen on."""
    if text in {"127.0.0.1", "localhost"}:
        return True
    found = address_of(text)
    return found is not None and found.is_loopback


@lru_cache(maxsize=4096)
def line_of(text: str) -> str:
    """What one caller has: an address, of IPv6 the network."""
    found = address_of(text)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found), V6_PREFIX), strict=False).network_address)
    return text


class Proxies:
    """Those whose X-Forwarded-For is believed; without any it is not even read."""

    def __init__(self, trusted: tuple[Network, ...] = ()) -> None:
        self.trusted = trusted

    def trusts(self, text: str) -> bool:
        found = address_of(text)
        return found is not None and any(found in each for each in self.trusted)

    def caller(self, peer: str, headers: list[tuple[bytes, bytes]]) -> str:
        """Who asked the proxy `peer`: the last address of the chain that no trusted proxy has. What stands before it,
        anybody could have written."""
        chain = [
            each.strip()
            for name, value in headers
            if name == b"x-forwarded-for"
            for each in value.decode("latin-1").split(",")
        ]
        caller = peer
        for each in reversed(chain):
            caller = each[:45]
            if not self.trusts(each):
                break
        return caller


@dataclass(slots=True)
class Line:
    """`known`: keys that came from here; `told`: whether the log has it."""

    wrong: Bucket
    known: set[int] = field(default_factory=set)
    told: bool = False

    def guessed_wrong(self, now: float) -> bool:
        """Whether it was one too many, for the first time of late."""
        self.wrong.take(1, now)
        over = self.wrong.wait_s(1, now) > 0
        first, self.told = over and not self.told, over
        return first


class Guard:
    """After WRONG_PER_MINUTE wrong keys within a minute a line is refused unread for a while, but for keys that it had used
    before: one wrong client behind a proxy does not lock the others out."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, Line] = OrderedDict()

    def line(self, address: str, now: float) -> Line:
        name = line_of(address)
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line(Bucket(WRONG_PER_MINUTE, now))
            if len(self._lines) > MAX_ADDRESSES:
                self._lines.popitem(last=False)
        else:
            self._lines.move_to_end(name)
        return line
