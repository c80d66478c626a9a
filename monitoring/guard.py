"""Holds connections to addresses that are allowed where a library opens them by itself.

A check before the send is not enough: asked again, a name may stand for another address. Python's audit hooks hear of the
very address that is connected to, before it is (PEP 578); here they refuse it."""

import ipaddress
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from safeguards.addresses import AddressError, check_address, resolve

CONNECTS = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
_refused: ContextVar[list[AddressError] | None] = ContextVar("refused", default=None)
_installed = threading.Lock()


@contextmanager
def only_allowed_addresses() -> Iterator[list[AddressError]]:
    """Within it no socket of this thread, nor of others that work in its context as those of Apprise do, reaches an
    address that is not allowed; whoever tries gets an OSError. Yields what was refused so far."""
    if _installed.acquire(blocking=False):  # never released: a hook stays for the life of the process
        sys.addaudithook(_hear)
    refused: list[AddressError] = []
    token = _refused.set(refused)
    try:
        yield refused
    finally:
        _refused.reset(token)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in CONNECTS and (refused := _refused.get()) is not None:
        _check(arguments[1], refused)


def _check(address: Any, refused: list[AddressError]) -> None:
    if not isinstance(address, tuple):
        return  # a socket of this machine, or one that is connected already
    host, port = str(address[0]), int(address[1])
    try:
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            resolve(host, port)  # the socket resolves the name itself, as only Apprise's rsyslog has it
        else:
            check_address(host)
    except AddressError as error:
        refused.append(error)
        raise PermissionError(str(error)) from error
