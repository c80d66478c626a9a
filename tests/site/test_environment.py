from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from aicleaner_site import environment


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:9", "http://box:9"),
        ("http://box", "http://box:80"),
        ("http://box/", "http://box:80"),
        ("https://box", "https://box:443"),
        ("[::1]:9", "http://[::1]:9"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(
    monkeypatch: pytest.MonkeyPatch, given: str, url: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert environment.ollama_url() == url


@pytest.mark.parametrize("given", ["ftp://box", "box:port", "box:99999", "http://box/ollama"])
def test_a_wrong_ollama_host_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    with pytest.raises(ImproperlyConfigured, match="OLLAMA_HOST"):
        environment.ollama_url()


@pytest.mark.parametrize(
    ("given", "url", "host"),
    [
        ("", "", ""),
        ("https://AI.example.com/", "https://ai.example.com", "ai.example.com"),
        ("https://ai.example.com:443", "https://ai.example.com", "ai.example.com"),
        ("http://box:8000", "http://box:8000", "box"),
        ("http://[fd00::1]:80", "http://[fd00::1]", "[fd00::1]"),
    ],
)
def test_the_public_address_is_read_as_browsers_write_origins(
    monkeypatch: pytest.MonkeyPatch, given: str, url: str, host: str
) -> None:
    monkeypatch.setenv("AICLEANER_PUBLIC_URL", given)
    assert environment.public_url("AICLEANER_PUBLIC_URL") == url
    assert environment.host_of(url) == host


@pytest.mark.parametrize(
    "given",
    [
        *(
            "ai.example.com",
            "ftp://box",
            "https://",
            "https://box/console",
            "https://box/?a=1",
            "https://me@box",
        ),
        *("https://box:99999", "https://box:0", "https://b ox", "https://*", "https://[::1"),
    ],
)
def test_a_wrong_public_address_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("AICLEANER_PUBLIC_URL", given)
    with pytest.raises(ImproperlyConfigured, match="AICLEANER_PUBLIC_URL"):
        environment.public_url("AICLEANER_PUBLIC_URL")


@pytest.mark.parametrize("given", ["", "  "])
def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """As compose files and service units leave them."""
    for name in ("A", "DATABASE_URL"):
        monkeypatch.setenv(name, given)
    assert environment.text("A", "b") == "b"
    assert environment.words("A", "b c") == ["b", "c"]
    assert environment.integer("A", 7) == 7
    assert environment.choice("A", "x", ("x", "y")) == "x"
    found = environment.database("DATABASE_URL", "sqlite:////data/a%20%23b/db.sqlite3")
    assert found["NAME"] == "/data/a #b/db.sqlite3"


@pytest.mark.parametrize(
    "given", ["oracle://u:secret@h/n", "mysql://u:secret@h/n", "secret", "postgres://h:secret/n"]
)
def test_a_database_that_is_none_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as caught:
        environment.database("DATABASE_URL", "")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["box:6379", "http://:secret@box", "redis://", ":secret@box"])
def test_a_wrong_address_of_valkey_names_the_variable_only(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("REDIS_URL", given)
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL") as caught:
        environment.valkey_url("REDIS_URL")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["0", "65536", "eighty", "-1", "²"])
def test_a_wrong_port_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("AICLEANER_WEB_PORT", given)
    with pytest.raises(ImproperlyConfigured, match="AICLEANER_WEB_PORT"):
        environment.port("AICLEANER_WEB_PORT", 8000)


def test_a_deep_data_folder_gets_a_short_folder_for_its_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    assert environment.run_dir(Path("/srv/a")) == Path("/srv/a/run")
    assert len(str(environment.run_dir(deep) / "valkey.sock")) <= environment.SOCKET_PATH_LIMIT
    assert environment.run_dir(deep) != environment.run_dir(tmp_path / ("e" * 120))
    assert environment.run_dir(Path("/srv/50 %")).parent != Path("/srv/50 %")
