"""What a library connects to by itself is held to the addresses that are allowed."""

import contextvars
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from monitoring.channels.apprise_url import AppriseChannel
from monitoring.guard import only_allowed_addresses
from tests.monitoring.receivers import http_receiver
from tests.monitoring.test_channels import error_of, notice

NOT_ALLOWED = ("0.0.0.0", 9)  # the one of them that leads nowhere but here


def connect_to(address: tuple[Any, ...], kind: socket.SocketKind = socket.SOCK_STREAM) -> str:
    """What comes of it, in a word."""
    with socket.socket(socket.AF_INET, kind) as found:
        try:
            found.connect(address)
        except PermissionError:
            return "refused"
        except OSError:
            return "tried"
    return "tried"


def test_only_within_it_addresses_that_are_not_allowed_are_refused() -> None:
    with only_allowed_addresses() as refused, http_receiver() as receiver:
        assert connect_to(NOT_ALLOWED) == "refused"
        assert connect_to(NOT_ALLOWED, socket.SOCK_DGRAM) == "refused"
        assert connect_to(("127.0.0.1", receiver.port)) == "tried"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found, pytest.raises(PermissionError):
            found.sendto(b"x", NOT_ALLOWED)
    assert [str(each) for each in refused] == [
        "Nothing is sent to 0.0.0.0: it is a link-local, metadata or multicast address."
    ] * 3
    assert connect_to(NOT_ALLOWED) == "tried"
    assert len(refused) == 3


def test_threads_that_work_in_its_context_are_held_too() -> None:
    found: list[str] = []

    def ask() -> None:
        found.append(connect_to(NOT_ALLOWED))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread was there before
        with only_allowed_addresses() as refused:
            pool.submit(contextvars.copy_context().run, ask).result()
        pool.submit(ask).result()
    assert found == ["refused", "tried"]
    assert len(refused) == 1


def test_a_name_that_changes_after_the_check_gets_apprise_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: allowed when the host is checked, another address when Apprise connects."""
    real, asked = socket.getaddrinfo, list[str]()

    def rebinding(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebinding.test":
            return real(host, *args, **kwargs)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "169.254.169.254", *args, **kwargs)

    with http_receiver() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        error = error_of(AppriseChannel(url=f"json://rebinding.test:{receiver.port}/"))
        assert len(asked) > 1
        assert error.permanent
        assert str(error).startswith("Nothing is sent to 169.254.169.254")
        AppriseChannel(url=f"json://127.0.0.1:{receiver.port}/").send(notice())
        assert len(receiver.got) == 1
