"""Corners of the engine's API: numbers beyond every type, pages of apps, what a name leaves behind."""

import json
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from inference.engine.store import ModelStore
from inference.gateway.headers import is_welcome as gateway_welcomes
from tests.inference.serving import Server
from tests.inference.test_engine import loaded, post
from tests.inference.test_transcripts import call, runner_pids
from tests.product import wait_for

HUGE = b"9" * 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", b'{"model": "tiny-ref", "prompt": "x", "keep_alive": ' + HUGE + b"}"),
        ("/api/generate", b'{"model": "tiny-ref", "options": {"temperature": ' + HUGE + b"}}"),
        ("/v1/completions", b'{"model": "tiny-ref", "prompt": "x", "top_p": -' + HUGE + b"}"),
        ("/api/chat", b'{"model": "tiny-ref", "options": {"logit_bias": {"a": ' + HUGE * 20 + b"}}}"),
    ],
)
def test_an_integer_beyond_every_float_is_refused_as_a_number(engine: Server, path: str, body: bytes) -> None:
    answer = call(engine.url, "POST", path, {}, body)
    assert answer.status == 400
    assert b"cannot unmarshal number" in answer.body
    assert len(answer.body) < 300


def test_a_body_that_is_not_encoded_as_it_says_is_refused(engine: Server) -> None:
    answer = call(engine.url, "POST", "/api/generate", {"Content-Encoding": "gzip"}, b'{"model": "tiny-ref"}')
    assert answer.status == 400
    assert b"the request body can't be read" in answer.body


@pytest.mark.parametrize("value", ["1e400", "nan", "-inf", "warm", HUGE.decode()])
def test_a_parameter_that_is_no_finite_number_is_refused_by_create(engine: Server, value: str) -> None:
    body = {"model": "odd", "from": "tiny-ref", "parameters": {"temperature": value}, "stream": False}
    answer = call(engine.url, "POST", "/api/create", {}, body)
    assert answer.status == 400
    assert b'parameter \\"temperature\\": expected float32' in answer.body


def test_a_completion_that_is_to_fill_a_gap_is_refused_as_by_generate(engine: Server) -> None:
    said = [
        call(engine.url, "POST", path, {}, {"model": "tiny-ref", "prompt": "x", "suffix": "y"})
        for path in ("/v1/completions", "/api/generate")
    ]
    assert [each.status for each in said] == [400, 400]
    assert all(b"tiny-ref:latest does not support insert" in each.body for each in said)


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        ("vscode-webview://1a2b", True),
        ("tauri://localhost", True),
        ("https://127.0.0.1", True),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("http://[::1", False),
    ],
)
def test_apps_of_this_machine_are_welcome_as_with_ollama(engine: Server, origin: str, welcome: bool) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Headers": "content-type,x-stainless-lang"}
    answer = call(engine.url, "OPTIONS", "/v1/chat/completions", headers, None)
    assert answer.status == (204 if welcome else 403)
    if welcome:
        assert answer.headers["Access-Control-Allow-Headers"] == "content-type,x-stainless-lang"
    assert gateway_welcomes(origin) is welcome


def test_a_model_that_is_deleted_amid_its_answer_is_listed_until_it_ends(engine: Server) -> None:
    body: dict[str, Any] = {"model": "short-lived", "from": "tiny-long", "quantize": "q8_0", "stream": False}
    post(engine, "/api/create", body)
    endless = {"model": "short-lived", "prompt": "x", "options": {"num_ctx": 4096, "num_predict": 40_000}}
    request = urllib.request.Request(engine.url + "/api/generate", json.dumps(endless).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.readline()
        assert call(engine.url, "DELETE", "/api/delete", {}, {"model": "short-lived"}).status == 200
        assert call(engine.url, "POST", "/api/show", {}, {"model": "short-lived"}).status == 404
        assert "short-lived:latest" in loaded(engine)
        assert answer.readline()
    wait_for(lambda: "short-lived:latest" not in loaded(engine), "it is gone")


def test_clients_that_leave_amid_a_stream_are_no_error_in_the_log(
    tmp_path: Path, chain_models: dict[str, Path]
) -> None:
    seed = f"tiny-long={chain_models['tiny-long']}"
    body = json.dumps({"model": "tiny-long", "prompt": "x", "options": {"num_predict": 40_000}}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with Server("inference.engine", "--models", str(tmp_path), "--seed-model", seed) as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(head + body)
                assert client.recv(100)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        post(server, "/api/generate", {"model": "tiny-long", "keep_alive": 0})
        wait_for(lambda: not loaded(server), "the model is unloaded")
        assert "Traceback" not in Path(server.log.name).read_text()


def test_a_file_stays_loaded_for_its_other_names_when_one_is_deleted(engine: Server) -> None:
    post(engine, "/api/create", {"model": "first", "from": "tiny-utf8", "quantize": "q8_0", "stream": False})
    call(engine.url, "POST", "/api/copy", {}, {"source": "first", "destination": "second"})
    post(engine, "/api/generate", {"model": "first", "keep_alive": -1})
    (before,) = runner_pids(engine, "second")
    assert call(engine.url, "DELETE", "/api/delete", {}, {"model": "first"}).status == 200
    assert loaded(engine)["second:latest"]["expires_at"].startswith("2318")
    assert runner_pids(engine, "second") == [before]
    assert call(engine.url, "DELETE", "/api/delete", {}, {"model": "second"}).status == 200
    assert "second:latest" not in loaded(engine)


def test_a_name_that_is_made_anew_leaves_no_file_behind(
    tmp_path: Path, chain_models: dict[str, Path]
) -> None:
    seed = f"tiny-script={chain_models['tiny-script']}"
    body: dict[str, Any] = {"model": "made", "from": "tiny-script", "stream": False}
    with Server("inference.engine", "--models", str(tmp_path), "--seed-model", seed) as server:
        for quantize in ("q8_0", "f16", "q8_0", "q8_0"):
            post(server, "/api/create", {**body, "quantize": quantize})
            assert len(list((tmp_path / "blobs").iterdir())) == 2
        assert post(server, "/api/generate", {"model": "tiny-script", "prompt": "x", "stream": False})["done"]
    assert {each.name.tag for each in ModelStore(tmp_path).all()} == {"latest"}
