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
        ("https://box", "https://box:443"),
        ("[::1]:9", "http://[::1]:9"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(
    monkeypatch: pytest.MonkeyPatch, given: str, url: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert environment.ollama_url() == url


@pytest.mark.parametrize("given", ["ftp://box", "box:port", "box:99999"])
def test_a_wrong_ollama_host_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    with pytest.raises(ImproperlyConfigured, match="OLLAMA_HOST"):
        environment.ollama_url()


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
