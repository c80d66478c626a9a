import stat
from pathlib import Path

import redis


def test_only_this_user_reaches_the_embedded_server(valkey_url: str) -> None:
    socket = Path(valkey_url.removeprefix("unix://"))
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    with redis.from_url(valkey_url) as client:
        assert client.config_get("port")["port"] == "0"


def test_a_full_server_refuses_writes_instead_of_dropping_entries(valkey_url: str) -> None:
    with redis.from_url(valkey_url) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
