"""Headers on their way to the engine."""

from inference.gateway.meter import Meter

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"host content-length expect".split()
)
CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
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
