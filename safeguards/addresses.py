"""Which addresses the product may connect to on behalf of a person: for channels, engines and benchmarks.

Loopback and private networks are fine (that is where local servers are); link-local and metadata addresses are not, nor
is a name that stands for one of them."""

import ipaddress
import socket

# Where clouds answer with a machine's credentials; most are link-local anyway.
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"),
    )
)


class AddressError(ValueError):
    """Its text says what is wrong, for the person who gave the address."""


class UnknownHostError(AddressError):
    """Nobody knows the name now; that may pass."""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, all of them allowed. Raises AddressError.

    Whoever connects has to use one of these: asked again, a name may stand for another address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnknownHostError(f"The host {host} can't be found: {error}.") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    for address in addresses:
        check_address(address)
    return addresses


def check_address(address: str) -> None:
    """Raises AddressError for one that is not allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    plain = getattr(ip, "ipv4_mapped", None) or ip
    if plain in METADATA or plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        raise AddressError(f"Nothing is sent to {plain}: it is a link-local, metadata or multicast address.")


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to the first address of `host` that answers. Raises AddressError, or OSError of the last one."""
    error: OSError | None = None
    for address in resolve(host, port):
        try:
            return socket.create_connection((address, port), timeout_s)
        except OSError as found:
            error = found
    raise error or OSError(f"{host} has no address")
