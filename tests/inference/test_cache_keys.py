"""What makes two requests equal: all that decides the answer, and nothing else."""

import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.keys import key_of
from tests.inference import gateways
from tests.inference.serving import Server

URL = "http://engine"


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with gateways.start(engine, own_valkey) as server:
        gateways.wait_until_listed(server)
        yield server


def test_the_key_is_of_all_that_decides_the_answer_and_of_nothing_else() -> None:
    values = {"model": "m", "prompt": "x", "options": {"seed": 1, "top_k": 2}, "images": ["AAAA"]}
    key = key_of("/api/generate", URL, "d", values)
    other_order = {"images": ["AAAA"], "options": {"top_k": 2, "seed": 1}, "prompt": "x", "model": "m"}
    assert key == key_of("/api/generate", URL, "d", other_order)
    others = [
        key_of("/api/chat", URL, "d", values),
        key_of("/api/generate", "http://other", "d", values),
        key_of("/api/generate", URL, "e", values),
        *(
            key_of("/api/generate", URL, "d", {**values, **change})
            for change in ({"prompt": "y"}, {"images": ["AAAB"]}, {"stream": True}, {"options": {"seed": 2}})
        ),
    ]
    assert key not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    "change",
    [
        {"keep_alive": "10m"},
        {"keep_alive": None, "format": None, "images": None},
        {"user": "anna"},
        {"options": {"num_thread": 3, "use_mmap": False}},
        {"options": {"stop": None}},
        {"options": {}},
    ],
)
def test_what_changes_no_answer_makes_no_other_key(change: dict[str, Any]) -> None:
    values = {"model": "m", "prompt": "x"}
    assert key_of("/api/chat", URL, "d", values | change) == key_of("/api/chat", URL, "d", values)
    other = {"options": {"num_ctx": 512, **change.get("options", {})}}
    assert key_of("/api/chat", URL, "d", values | other) != key_of("/api/chat", URL, "d", values)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: {"messages": [{"role": "user", "content": "x", "images": [picture]}]},
        lambda picture: {"messages": [{"content": [{"type": "image_url", "image_url": {"url": picture}}]}]},
        lambda picture: {"images": [picture, {"odd": "\ud800"}]},
    ],
)
def test_pictures_count_wherever_they_stand(change: Any) -> None:
    keys = [
        key_of("/api/chat", URL, "d", change(picture)) for picture in ("A" * 1000, "B" * 1000, "A" * 1000)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_a_request_too_deep_to_be_told_from_others_is_refused(gateway: Server) -> None:
    """There is a depth that JSON can be read at, and not be written: which one, only trying tells."""
    statuses = set()
    for depth in range(940, 1000):
        text = f"[{'[' * depth}{']' * depth}]"
        body = f'{{"model": "tiny-script", "prompt": "x", "options": {{"temperature": 0}}, "other": {text}}}'
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        connection.request("POST", "/api/generate", body)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        statuses.add(answer.status)
    assert statuses == {200, 400}
