"""What the transcripts can't show: crashes, leaving clients, the queue, expiry, and the official clients."""

import http.client
import json
import os
import signal
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import ollama
import openai
import psutil
import pytest

from inference.sample_model.evaluate import FILE as SAMPLE
from tests.inference.serving import Server
from tests.inference.test_transcripts import call, runner_pids
from tests.product import wait_for

ROOM = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor."


def post(engine: Server, path: str, body: dict[str, Any]) -> Any:
    answer = call(engine.url, "POST", path, {}, body)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def loaded(engine: Server) -> dict[str, Any]:
    with urllib.request.urlopen(engine.url + "/api/ps") as answer:
        return {each["name"]: each for each in json.loads(answer.read())["models"]}


def test_the_sample_model_answers_a_room_with_its_tasks(engine: Server) -> None:
    answer = post(engine, "/api/generate", {"model": "aicleaner-sample", "prompt": ROOM, "stream": False})
    lines = answer["response"].split("\n")
    assert len(lines) == 2
    assert "the dirty dishes in the sink [high]" in lines[0]
    assert answer["eval_count"] > 10
    assert 0 < answer["eval_duration"] < answer["total_duration"]


def test_the_ollama_client_works_unchanged(engine: Server) -> None:
    client = ollama.Client(engine.url, timeout=60)
    assert "aicleaner-sample:latest" in [each.model for each in client.list().models]
    parts = [
        part.message.content
        for part in client.chat("aicleaner-sample", [{"role": "user", "content": ROOM}], stream=True)
    ]
    assert "crumbs on the floor" in "".join(part or "" for part in parts)
    assert client.show("aicleaner-sample").details is not None
    assert len(client.embed("tiny-embed", ["a", "b"]).embeddings) == 2
    client.create("from-client", from_="aicleaner-sample", parameters={"num_ctx": 256}, system="Be brief.")
    assert client.generate("from-client", ROOM, options={"num_predict": 5}).eval_count == 5
    client.delete("from-client")
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.generate("from-client", "x")
    client.close()  # type: ignore[no-untyped-call]


def test_the_openai_client_works_unchanged(engine: Server) -> None:
    client = openai.OpenAI(base_url=f"{engine.url}/v1", api_key="unused", timeout=60, max_retries=0)
    answer = client.chat.completions.create(
        model="aicleaner-sample", messages=[{"role": "user", "content": ROOM}], temperature=0
    )
    assert "crumbs on the floor" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 10
    with client.completions.create(model="tiny-script", prompt="x", stream=True, temperature=0) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream).startswith("The kitchen lamp")
    assert len(client.embeddings.create(model="tiny-embed", input=["a"]).data) == 1
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    client.close()


def test_a_schema_holds_the_answer_to_its_form(engine: Server) -> None:
    schema = {"type": "object", "properties": {"on": {"enum": ["yes", "no"]}}, "required": ["on"]}
    body = {"model": "aicleaner-sample", "prompt": "x", "format": schema, "stream": False}
    answer = post(engine, "/api/generate", {**body, "options": {"num_predict": 40}})
    assert answer["response"].lstrip().startswith("{")
    one_of = {**body, "format": {"enum": ["yes", "no"]}, "options": {"num_predict": 40}}
    assert json.loads(post(engine, "/api/generate", one_of)["response"]) in {"yes", "no"}


def open_stream(
    engine: Server, body: dict[str, Any]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A streamed generation of which one line has come."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
    connection.request("POST", "/api/generate", json.dumps(body))
    response = connection.getresponse()
    assert response.status == 200
    response.readline()
    return connection, response


LONG = {"model": "tiny-long", "prompt": "x", "options": {"num_predict": 30_000, "num_ctx": 4096}}


@pytest.fixture(scope="module")
def long_engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An engine with a model that goes on for as long as one lets it, without repeating itself at once."""
    from tests.inference import chain_model

    folder = tmp_path_factory.mktemp("long")
    words = [f"word{number} ".encode() for number in range(50)]
    model = chain_model.write_chain(folder / "long.gguf", words, loop=True)
    with Server(
        "inference.engine",
        *("--models", str(folder / "models"), "--max-queue", "2", "--seed-model", f"tiny-long={model}"),
        *("--seed-model", f"aicleaner-sample={SAMPLE}", "--max-loaded", "1"),
    ) as server:
        yield server


def test_a_killed_model_process_gives_ollama_s_error_and_the_next_request_reloads(
    long_engine: Server,
) -> None:
    connection, response = open_stream(long_engine, LONG)
    before = runner_pids(long_engine, "tiny-long")
    os.kill(before[0], signal.SIGKILL)
    last = response.read().strip().split(b"\n")[-1]
    assert json.loads(last) == {"error": "an error was encountered while running the model: unexpected EOF"}
    connection.close()
    short = {**LONG, "stream": False, "options": {"num_predict": 3, "num_ctx": 4096}}
    assert post(long_engine, "/api/generate", short)["eval_count"] == 3
    assert runner_pids(long_engine, "tiny-long") != before


def test_a_killed_model_process_is_an_error_500_when_nothing_was_sent_yet(long_engine: Server) -> None:
    post(long_engine, "/api/generate", {"model": "tiny-long", "options": LONG["options"]})
    answers: list[Any] = []
    ask = threading.Thread(
        target=lambda: answers.append(
            call(long_engine.url, "POST", "/api/generate", {}, {**LONG, "stream": False})
        )
    )
    ask.start()
    pid = runner_pids(long_engine, "tiny-long")[0]
    wait_for(lambda: psutil.Process(pid).cpu_percent(0.05) > 50, "the model generates")
    os.kill(pid, signal.SIGKILL)
    ask.join(20)
    assert answers[0].status == 500
    assert b"unexpected EOF" in answers[0].body


def test_a_client_that_leaves_stops_its_generation(long_engine: Server) -> None:
    connection, response = open_stream(long_engine, LONG)
    process = psutil.Process(runner_pids(long_engine, "tiny-long")[0])
    wait_for(lambda: process.cpu_percent(0.05) > 50, "the model generates")
    response.close()
    connection.close()
    wait_for(lambda: process.cpu_percent(0.2) < 10, "the model rests")
    short = {**LONG, "stream": False, "options": {"num_predict": 3, "num_ctx": 4096}}
    assert post(long_engine, "/api/generate", short)["done"]


def test_a_client_that_leaves_before_the_answer_stops_its_generation(long_engine: Server) -> None:
    post(long_engine, "/api/generate", {"model": "tiny-long", "options": LONG["options"]})
    process = psutil.Process(runner_pids(long_engine, "tiny-long")[0])
    connection = http.client.HTTPConnection("127.0.0.1", long_engine.port, timeout=30)
    connection.request("POST", "/api/generate", json.dumps({**LONG, "stream": False}))
    wait_for(lambda: process.cpu_percent(0.05) > 50, "the model generates")
    connection.close()
    wait_for(lambda: process.cpu_percent(0.2) < 10, "the model rests")


def test_requests_to_a_loaded_model_queue_without_a_limit(long_engine: Server) -> None:
    """More of them than --max-queue: that limit is for loads only, as the recorded server has it."""
    short = {**LONG, "stream": False, "options": {"num_predict": 20, "num_ctx": 4096}}
    post(long_engine, "/api/generate", short)
    statuses: list[int] = []
    asking = [
        threading.Thread(
            target=lambda: statuses.append(call(long_engine.url, "POST", "/api/generate", {}, short).status)
        )
        for _ in range(12)
    ]
    for each in asking:
        each.start()
    for each in asking:
        each.join(60)
    assert statuses == [200] * 12


def test_half_of_many_clients_leaving_costs_the_others_nothing(engine: Server) -> None:
    body = {"model": "aicleaner-sample", "prompt": ROOM, "stream": True}
    whole: list[bool] = []

    def ask(leaves: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=60)
        connection.request("POST", "/api/generate", json.dumps(body))
        response = connection.getresponse()
        if leaves:
            response.readline()
        else:
            whole.append(json.loads(response.read().strip().split(b"\n")[-1])["done"])
        connection.close()

    asking = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(32)]
    for each in asking:
        each.start()
    for each in asking:
        each.join(120)
    assert whole == [True] * 16
    assert post(engine, "/api/generate", {**body, "stream": False})["done"]


def test_too_many_requests_that_wait_for_a_load_get_503(long_engine: Server) -> None:
    connection, response = open_stream(long_engine, LONG)  # holds the only place
    statuses: list[int] = []
    other = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False}
    waiting = [
        threading.Thread(
            target=lambda: statuses.append(call(long_engine.url, "POST", "/api/generate", {}, other).status)
        )
        for _ in range(5)
    ]
    for each in waiting:
        each.start()
    wait_for(lambda: statuses.count(503) == 3, "three were refused")
    response.close()
    connection.close()
    for each in waiting:
        each.join(30)
    assert sorted(statuses) == [200, 200, 503, 503, 503]


def test_a_changed_load_option_reloads_and_a_sampling_option_does_not(engine: Server) -> None:
    base = {"model": "tiny-script", "prompt": "x", "stream": False}
    post(engine, "/api/generate", {**base, "options": {"num_ctx": 512}})
    first = runner_pids(engine, "tiny-script")
    post(engine, "/api/generate", {**base, "options": {"num_ctx": 512, "temperature": 0.1}})
    assert runner_pids(engine, "tiny-script") == first
    post(engine, "/api/generate", {**base, "options": {"num_ctx": 256}})
    assert runner_pids(engine, "tiny-script") != first
    assert loaded(engine)["tiny-script:latest"]["context_length"] == 256


def test_keep_alive_unloads_in_time_and_at_once(engine: Server) -> None:
    post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": "200ms"})
    wait_for(lambda: "tiny-script:latest" not in loaded(engine), "the model is unloaded", 10)
    post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": -1})
    assert loaded(engine)["tiny-script:latest"]["expires_at"].startswith("2318")
    assert post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": 0})["done_reason"] == "unload"
    assert "tiny-script:latest" not in loaded(engine)


def test_a_foreign_host_or_origin_is_refused(engine: Server) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert call(engine.url, "GET", "/api/tags", headers, None).status == 403
    for headers in ({"Host": "localhost"}, {"Origin": "http://localhost:3000"}, {"Host": "192.168.1.7:1"}):
        assert call(engine.url, "GET", "/api/tags", headers, None).status == 200


def test_an_upload_that_breaks_off_leaves_nothing(engine: Server, tmp_path: Path) -> None:
    models = Path(engine.command[engine.command.index("--models") + 1])
    before = set((models / "blobs").iterdir())
    with socket.create_connection(("127.0.0.1", engine.port)) as connection:
        head = f"POST /api/blobs/sha256:{'a' * 64} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 1000)
        wait_for(lambda: set((models / "blobs").iterdir()) != before, "the upload has begun")
    wait_for(lambda: set((models / "blobs").iterdir()) == before, "the partial file is gone")


@pytest.mark.parametrize("digest", ["../../etc/passwd", "sha256:zz", "sha256-" + "g" * 64])
def test_a_digest_that_is_none_is_refused(engine: Server, digest: str) -> None:
    path = f"/api/blobs/{digest.replace('/', '%2F')}"
    assert call(engine.url, "POST", path, {}, b"x").status == 400


def test_a_file_that_is_no_gguf_is_refused_by_create(engine: Server) -> None:
    import hashlib

    digest = f"sha256:{hashlib.sha256(b'no model').hexdigest()}"
    assert call(engine.url, "POST", f"/api/blobs/{digest}", {}, b"no model").status == 201
    answer = call(engine.url, "POST", "/api/create", {}, {"model": "broken", "files": {"m.gguf": digest}})
    assert answer.status == 200
    assert "invalid file magic" in json.loads(answer.body.strip().split(b"\n")[-1])["error"]
    assert call(engine.url, "POST", "/api/show", {}, {"model": "broken"}).status == 404


@pytest.mark.parametrize(
    "options",
    [
        {"num_batch": 1},
        {"num_batch": -3},
        {"num_ctx": -5},
        {"num_ctx": 10**12},
        {"num_predict": 10**12},
        {"num_thread": -1},
        {"num_gpu": 10**9},
        {"main_gpu": -1},
        {"repeat_last_n": -1},
        {"seed": 2**40},
        {"samplers": []},
        {"mirostat": 2, "mirostat_tau": 4.0},
        {"dry_multiplier": 0.5, "dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n"]},
        {"adaptive_target": 0.5, "adaptive_decay": 0.9},
    ],
)
def test_no_value_of_an_option_breaks_a_model(engine: Server, options: dict[str, Any]) -> None:
    body = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False, "options": options}
    assert post(engine, "/api/generate", body)["done"]


def test_options_that_only_llama_cpp_knows_act(engine: Server) -> None:
    def ask(**options: Any) -> dict[str, Any]:
        body = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False, "options": options}
        return dict(post(engine, "/api/generate", body))

    assert ask(grammar='root ::= "yes"')["response"] == "yes"
    assert ask(ignore_eos=True, num_predict=90)["done_reason"] == "length"
    assert "[" not in ask(logit_bias={" [": -100.0, "[": -100.0})["response"]
    assert ask(stop=["]"])["response"].endswith("[high")


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/api/generate", b'{"model": "tiny-ref", "options": {"temperature": NaN}}', 400, "invalid character 'N'"),
        ("/api/generate", b'{"model": "tiny-ref", "options": {"num_ctx": 1e400}}', 400, "cannot unmarshal number"),
        ("/api/generate", b'{"seed": ' + b"9" * 5000 + b"}", 400, "cannot unmarshal number"),
        ("/api/generate", b'{"prompt": "\xff"}', 400, "not UTF-8"),
        ("/api/generate", b"[" * 100_000, 400, "max depth"),
        ("/api/generate", b'{"model": "tiny-ref", "prompt": "x", "context": ["a"]}', 400, "context of type int"),
        ("/api/generate", b'{"model": "tiny-ref", "prompt": "x", "context": [99999999]}', 400, "invalid tokens"),
        ("/api/generate", b'{"model": "tiny-ref", "prompt": "x", "options": {"grammar": "b ::"}}', 400, "grammar"),
        ("/api/generate", b'{"model": "tiny-ref", "prompt": "x", "options": {"logit_bias": {"a": "b"}}}', 500, "logit_bias"),
        ("/api/chat", b'{"model": "tiny-ref", "messages": [{"role": "user", "tool_calls": "y"}]}', 400, "tool_calls"),
        ("/api/chat", b'{"model": "tiny-ref", "messages": [{"role": "god", "content": "x"}]}', 400, "invalid role"),
        ("/api/copy", b'{"source": "tiny-ref", "destination": "../../x"}', 400, "is invalid"),
        ("/api/create", b'{"model": "../x", "from": "tiny-ref"}', 400, "invalid model name"),
        ("/v1/chat/completions", b'{"model": "tiny-ref", "messages": [5]}', 400, "invalid message format"),
    ],
)  # fmt: skip
def test_bad_input_is_told_and_breaks_nothing(
    engine: Server, path: str, body: bytes, status: int, told: str
) -> None:
    answer = call(engine.url, "POST", path, {}, body)
    assert answer.status == status
    assert told in answer.body.decode()


def test_creates_of_one_name_at_a_time_leave_one_whole_model(engine: Server) -> None:
    body = {"model": "at-once", "from": "tiny-ref", "quantize": "q8_0", "stream": False}
    answers: list[Any] = []
    making = [
        threading.Thread(target=lambda: answers.append(call(engine.url, "POST", "/api/create", {}, body)))
        for _ in range(4)
    ]
    for each in making:
        each.start()
    for each in making:
        each.join(60)
    assert [each.status for each in answers] == [200] * 4
    assert post(engine, "/api/generate", {"model": "at-once", "prompt": ROOM, "stream": False})["done"]
    assert call(engine.url, "DELETE", "/api/delete", {}, {"model": "at-once"}).status == 200
