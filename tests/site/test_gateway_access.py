"""Settings of who may use the gateway, and the warning of one that is open."""

from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from aicleaner_site import environment
from aicleaner_site.management.commands.up import open_gateway_warning
from aicleaner_site.processes import all_processes, gateway_command
from inference.gateway.records import STATS_KEY
from tests.inference.serving import Server
from tests.product import wait_for


def test_the_gateway_is_started_with_what_the_settings_say(settings: Any) -> None:
    settings.GATEWAY_REQUIRE_KEY, settings.GATEWAY_TRUSTED_PROXIES = "always", ["10.0.0.1", "172.16.0.0/12"]
    words = gateway_command()
    assert words[words.index("--require-key") + 1] == "always"
    proxies = [words[n + 1] for n, word in enumerate(words) if word == "--trusted-proxy"]
    assert proxies == ["10.0.0.1", "172.16.0.0/12"]
    assert settings.SECRET_KEY not in " ".join(words)


@pytest.mark.parametrize("given", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1 x"])
def test_a_wrong_proxy_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("AICLEANER_GATEWAY_TRUSTED_PROXIES", given)
    with pytest.raises(ImproperlyConfigured, match="AICLEANER_GATEWAY_TRUSTED_PROXIES"):
        environment.networks("AICLEANER_GATEWAY_TRUSTED_PROXIES")


@pytest.mark.parametrize(
    ("host", "require", "warns"),
    [
        ("127.0.0.1", "never", False),
        ("localhost", "never", False),
        ("::1", "never", False),
        ("0.0.0.0", "never", True),
        ("::", "never", True),
        ("192.168.1.5", "never", True),
        ("0.0.0.0", "remote", False),
        ("0.0.0.0", "always", False),
    ],
)
def test_a_gateway_that_is_open_to_other_machines_is_warned_of(
    settings: Any, host: str, require: str, warns: bool
) -> None:
    settings.GATEWAY_HOST, settings.GATEWAY_REQUIRE_KEY = host, require
    text = " ".join(open_gateway_warning())
    assert bool(text) is warns
    assert not warns or (host in text and "AICLEANER_GATEWAY_REQUIRE_KEY" in text)


def test_the_password_of_another_valkey_stands_on_no_command_line(settings: Any) -> None:
    settings.VALKEY_EMBEDDED, settings.VALKEY_URL = False, "redis://:geheim@box:6379/0"
    assert "geheim" not in str([each.command for each in all_processes()])


def test_the_gateway_takes_another_valkey_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", valkey_url)
    dead = ("--engine", "embedded=http://127.0.0.1:1")
    with Server("inference.gateway", *dead), redis.from_url(valkey_url) as client:
        wait_for(lambda: client.get(STATS_KEY), "the gateway tells its figures there")
