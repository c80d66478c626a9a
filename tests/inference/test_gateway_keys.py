"""API keys at the real gateway: who comes in, what passes on, what stays when Valkey or the gateway goes."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.api_keys import month_of
from inference.gateway.pushed import API_KEYS
from inference.gateway.records import STATS_KEY
from inference.gateway.tokens import digest_of, gateway_secret, new_token
from tests.inference.gateways import hand_over, push, records
from tests.inference.rooms import as_seen, encoded, room
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.inference.upstream import Upstream, response
from tests.product import wait_for

SECRET = gateway_secret(settings.SECRET_KEY)
TOKEN = new_token()
AWAY = {"X-Forwarded-For": "192.0.2.7"}  # what a proxy on this machine passes on
ANSWER = {
    "model": "m",
    "response": "x",
    "done": True,
    "done_reason": "stop",
    "eval_count": 3,
    "prompt_eval_count": 40,
}


def plain(request: bytes, connection: Any) -> None:
    connection.sendall(response(json.dumps(ANSWER).encode()))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(plain) as server:
        server.models = b'[{"name": "m:latest", "digest": "d", "size": 1}]'
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def gateway(
    valkey_url: str, upstream: Upstream, folder: Path, *arguments: str, port: int | None = None
) -> Server:
    words = ("--valkey", valkey_url, "--engine", f"ollama={upstream.url}")
    kept = ("--keys-file", str(folder / "keys.json"))
    return Server("inference.gateway", *words, *kept, *arguments, ready="/api/version", port=port)


def state(token: str = TOKEN, used: tuple[int, float] = (0, 0.0), **values: Any) -> dict[str, Any]:
    key = {"id": 7, "name": "home", "digest": digest_of(token.encode(), SECRET).hex(), **values}
    return {"keys": [key], "month": month_of(time.time()), "used": {"7": list(used)}}


def ask(
    server: Server, token: str = "", *, path: str = "/api/generate", away: bool = True, **more: Any
) -> Answer:
    headers = {**(AWAY if away else {}), **more.pop("headers", {})}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = {"model": "m", "prompt": "dirty?", "messages": [], "stream": False, **more}
    return call(server.url, "POST", path, headers, body)


def test_a_key_lets_in_limits_apply_and_its_name_stands_in_the_record(
    own_valkey: ValkeyServer, own_store: redis.Redis, upstream: Upstream, folder: Path
) -> None:
    with gateway(own_valkey.url, upstream, folder) as server:
        assert ask(server, away=False).status == 200  # this machine
        assert ask(server).status == 401
        assert push(own_store, API_KEYS, state(requests_per_minute=2, models=["m"])) == "ok"
        first = ask(server, TOKEN)
        assert (first.status, first.headers["x-ratelimit-remaining-requests"]) == (200, "1")
        assert ask(server, TOKEN, model="other").status == 403
        limited = ask(server, TOKEN)
        assert limited.status == 429
        assert 1 <= int(limited.headers["retry-after"]) <= 30
        found = records(own_store, 4)
        assert [(each.get("api_key"), each["status"]) for each in found] == [
            (None, 200),
            ("home", 200),
            ("home", 403),
            ("home", 429),
        ]
        assert [each.get("api_key_tokens") for each in found] == [None, 43, 0, 0]
        assert push(own_store, API_KEYS, state(enabled=False)) == "ok"
        assert ask(server, TOKEN).status == 401
        assert ask(server, new_token(), away=False).status == 401


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/generate", {"error": str}),
        ("/api/chat", {"error": str}),
        ("/v1/chat/completions", {"error": {"message": str, "type": str, "param": type(None), "code": str}}),
        ("/v1/messages", {"type": str, "error": {"type": str, "message": str}}),
    ],
)
def test_refusals_have_the_shape_of_the_api_that_was_asked(
    own_valkey: ValkeyServer,
    own_store: redis.Redis,
    upstream: Upstream,
    folder: Path,
    path: str,
    shape: dict[str, Any],
) -> None:
    def shape_of(value: Any) -> Any:
        return (
            {name: shape_of(each) for name, each in value.items()} if isinstance(value, dict) else type(value)
        )

    with gateway(own_valkey.url, upstream, folder) as server:
        push(own_store, API_KEYS, state(tokens_per_month=10, used=(10, 0.0)))
        for token, status in (("", 401), (new_token(), 401), (TOKEN, 429)):
            answer = ask(server, token, path=path)
            assert answer.status == status
            assert shape_of(json.loads(answer.body)) == shape
        assert "budget" in answer.body.decode()
        assert int(answer.headers["retry-after"]) > 0
    assert not upstream.requests


def test_the_clients_of_openai_and_ollama_bring_their_key(
    own_valkey: ValkeyServer, own_store: redis.Redis, upstream: Upstream, folder: Path
) -> None:
    import ollama
    import openai

    def chat(request: bytes, connection: Any) -> None:
        message = {"role": "assistant", "content": "hi"}
        if b"/v1/" in request.split(b"\r\n")[0]:
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        else:
            body = {"model": "m", "message": message, "done": True}
        connection.sendall(response(json.dumps(body).encode()))

    upstream.begin(chat)
    messages: Any = [{"role": "user", "content": "hi"}]
    with gateway(own_valkey.url, upstream, folder, "--require-key", "always") as server:
        push(own_store, API_KEYS, state())
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as client:
            assert (
                client.chat.completions.create(model="m", messages=messages).choices[0].message.content
                == "hi"
            )
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError, match="needs an API key"),
        ):
            client.chat.completions.create(model="m", messages=messages)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with ollama.Client(server.url, headers=headers) as mine:
            assert mine.chat("m", messages).message.content == "hi"
        with (
            ollama.Client(server.url) as nobody,
            pytest.raises(ollama.ResponseError, match="needs an API key"),
        ):
            nobody.chat("m", messages)
    assert not any(TOKEN.encode() in each for each in upstream.requests)


def test_a_key_is_in_no_log_no_record_no_figure_and_not_upstream(
    own_valkey: ValkeyServer, own_store: redis.Redis, upstream: Upstream, folder: Path
) -> None:
    wrong = new_token()
    with gateway(own_valkey.url, upstream, folder) as server:
        push(own_store, API_KEYS, state(requests_per_minute=5))
        for token in (TOKEN, wrong):
            for header in ({"Authorization": f"Bearer {token}"}, {"X-Api-Key": token}):
                for path in ("/api/generate", "/v1/chat/completions", "/nowhere"):
                    ask(server, path=path, headers=header)
        for _ in range(40):  # one line of the log for many guesses
            ask(server, new_token())
        upstream.begin(lambda request, connection: connection.close())
        ask(server, headers={"X-Api-Key": TOKEN})  # the engine fails: that is logged
        records(own_store, 5)
        wait_for(lambda: own_store.get(STATS_KEY), "figures are told")
        log = Path(server.log.name).read_text()
    assert "wrong API keys from" in log
    assert log.count("wrong API keys from") == 1
    kept = b"".join(own_store.dump(name) or b"" for name in own_store.keys("*"))
    for place in (log.encode(), kept, (folder / "keys.json").read_bytes(), *upstream.requests):
        for token in (TOKEN, wrong):
            assert token.encode() not in place
            assert token[12:30].encode() not in place


def test_a_start_without_valkey_knows_the_keys_of_before_and_nobody_else(
    own_valkey: ValkeyServer, own_store: redis.Redis, upstream: Upstream, folder: Path
) -> None:
    nowhere = "unix:///nowhere/valkey.sock"
    with gateway(nowhere, upstream, folder) as server:  # it never knew any
        assert ask(server, TOKEN).status == 503
        assert ask(server).status == 401
        assert ask(server, away=False).status == 200
    with gateway(own_valkey.url, upstream, folder) as server:
        push(own_store, API_KEYS, state(tokens_per_month=100))
        assert [ask(server, TOKEN).status for _ in range(2)] == [200, 200]
    with gateway(nowhere, upstream, folder) as server:  # 86 of 100 tokens were used before
        assert ask(server).status == 401
        assert ask(server, new_token()).status == 401
        assert [ask(server, TOKEN).status for _ in range(2)] == [200, 429]
    with gateway(own_valkey.url, upstream, folder) as server:  # the key was deleted meanwhile
        push(own_store, API_KEYS, {"keys": [], "month": month_of(time.time()), "used": {}})
        assert ask(server, TOKEN).status == 401


def test_while_valkey_is_away_the_keys_stay_as_they_were(
    own_valkey: ValkeyServer, own_store: redis.Redis, upstream: Upstream, folder: Path
) -> None:
    with gateway(own_valkey.url, upstream, folder) as server:
        push(own_store, API_KEYS, state())
        own_valkey.process.kill()
        own_valkey.process.wait(10)
        assert ask(server, TOKEN).status == 200
        assert ask(server).status == 401
        assert ask(server, new_token()).status == 401


def test_pictures_of_a_key_share_answers_by_its_distance_and_with_nobody_else(
    own_valkey: ValkeyServer, own_store: redis.Redis, upstream: Upstream, folder: Path
) -> None:
    other = new_token()
    kitchen = room(1)

    def look(token: str, picture: Any, **headers: str) -> Answer:
        return ask(server, token, images=[encoded(picture)], options={"temperature": 0}, headers=headers)

    with gateway(own_valkey.url, upstream, folder) as server:
        assert hand_over(own_store, None) == "ok"
        both = state(frame_distance=16)
        both["keys"].append(
            {
                **both["keys"][0],
                "id": 8,
                "digest": digest_of(other.encode(), SECRET).hex(),
                "frame_distance": None,
            }
        )
        push(own_store, API_KEYS, both)
        wait_for(
            lambda: look(TOKEN, room(9)).headers["x-aicleaner-cache"] != "bypass", "the models are known"
        )
        assert look(TOKEN, kitchen).headers["x-aicleaner-cache"] == "miss"
        near = look(TOKEN, as_seen(kitchen, seed=2))
        assert near.headers["x-aicleaner-cache"] == "hit"
        assert "x-aicleaner-cache-distance" in near.headers
        assert (
            look(TOKEN, as_seen(kitchen, seed=3), **{"x-aicleaner-zone": "hall"}).headers["x-aicleaner-cache"]
            == "miss"
        )
        assert look(other, as_seen(kitchen, seed=4)).headers["x-aicleaner-cache"] == "miss"


def test_without_a_secret_every_key_is_refused_and_the_log_says_so(
    own_valkey: ValkeyServer, upstream: Upstream, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AICLEANER_SECRET_KEY")
    with gateway(own_valkey.url, upstream, folder, "--host", "0.0.0.0", "--require-key", "never") as server:
        with redis.from_url(own_valkey.url) as store:
            push(store, API_KEYS, state())
        assert ask(server, TOKEN).status == 401
        assert ask(server).status == 200
        log = Path(server.log.name).read_text()
    assert "every API key is refused" in log
    assert log.count("no API key is required") == 1


def test_a_bad_address_of_a_proxy_is_named() -> None:
    command = [
        *Server("inference.gateway").command,
        "--valkey",
        "x",
        "--engine",
        "ollama=http://x",
        "--trusted-proxy",
        "x",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--trusted-proxy" in done.stderr
