"""Where benchmarks are sent, and which variable may hold a key."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.addresses import check_address, read_key
from benchmarks.errors import AddressError, KeyVariableError
from safeguards.addresses import METADATA


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "https://127.0.0.1/v1",
        "http://10.1.2.3:11434/v1",
        "http://[::1]:8080",
        "http://192.168.1.4/",
    ],
)
def test_local_and_private_addresses_are_fine(url: str) -> None:
    assert check_address(f" {url} ") == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "http://"),
        ("127.0.0.1:8000", "http://"),
        ("ftp://127.0.0.1", "http://"),
        ("file:///etc/passwd", "http://"),
        ("http://", "http://"),
        ("http://127.0.0.1:99999", "no address"),
        ("http://[::1", "no address"),
        ("http://me:pw@127.0.0.1", "user name and password"),
        ("http://127.0.0.1/v1?key=1", "'?'"),
        ("http://no-such-host.invalid", "can't be found"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://100.100.100.200", "metadata"),
        ("http://[fd00:ec2::254]", "metadata"),
        ("http://[fe80::1]", "link-local"),
        ("http://224.0.0.1", "multicast"),
        ("http://0.0.0.0:11434", "link-local"),
        ("http://2852039166", "link-local"),  # 169.254.169.254 as one number
    ],
)
def test_other_addresses_are_refused_with_the_reason(url: str, word: str) -> None:
    with pytest.raises(AddressError, match=word.replace("?", r"\?")):
        check_address(url)


@given(st.ip_addresses())
def test_every_number_is_judged_by_what_it_is(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    plain = getattr(ip, "ipv4_mapped", None) or ip
    bad = plain in METADATA or plain.is_link_local or plain.is_multicast or plain.is_unspecified
    url = f"http://{f'[{ip}]' if ip.version == 6 else ip}:8000"
    if bad:
        with pytest.raises(AddressError):
            check_address(url)
    else:
        assert check_address(url) == url


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "AICLEANER_SECRET_API_KEY", "sk-123", "openai_api_key", "X", "A_API_KEY\n"]
)
def test_only_variables_that_are_meant_for_it_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name.strip(), "secret-value")
    with pytest.raises(KeyVariableError) as caught:
        read_key(name)
    assert "secret-value" not in str(caught.value)


def test_a_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", " k ")
    assert read_key("SOME_API_KEY") == "k"
    monkeypatch.delenv("SOME_API_KEY")
    with pytest.raises(KeyVariableError, match="SOME_API_KEY is not set"):
        read_key("SOME_API_KEY")
