"""What the transcripts can't show: crashes, leaving clients, the queue, expiry, and the official clients."""

import hashlib
import http.client
import json
import resource
import socket
import subprocess
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
from tests.inference.test_transcripts import FOLDER, call, runner_pids
from tests.product import BASE_DIR, wait_for

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
    client.copy("from-client", "copied-by-client")
    digest = client.create_blob(SAMPLE)
    client.create("from-file", files={"sample.gguf": digest}, quantize="q8_0")
    assert client.show("from-file").details.quantization_level == "Q8_0"  # type: ignore[union-attr]
    loaded_names = [each.model for each in client.ps().models]
    assert "aicleaner-sample:latest" in loaded_names or "from-client:latest" in loaded_names
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    calls = client.chat(
        "tiny-tool", [{"role": "user", "content": "weather?"}], tools=[tool]
    ).message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("get_weather", {"city": "Paris"})
    for name in ("from-file", "copied-by-client"):
        client.delete(name)
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
    assert client.models.retrieve("tiny-script").owned_by == "library"
    assert "tiny-script:latest" in [each.id for each in client.models.list()]
    with pytest.raises(openai.NotFoundError, match="not offered by the embedded engine"):
        client.responses.create(model="tiny-script", input="x")
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
def long_engine(tmp_path_factory: pytest.TempPathFactory, chain_models: dict[str, Path]) -> Any:
    """An engine with a model that goes on for as long as one lets it, without repeating itself at once."""
    with Server(
        "inference.engine",
        *("--models", str(tmp_path_factory.mktemp("long")), "--max-queue", "2"),
        *("--seed-model", f"tiny-long={chain_models['tiny-long']}"),
        *("--seed-model", f"aicleaner-sample={SAMPLE}", "--max-loaded", "1"),
    ) as server:
        yield server


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
    transcript = json.loads((FOLDER / "queue-cold-maxqueue2-parallel1.json").read_text())
    recorded = sorted(row["status"] for row in transcript["rows"])
    connection, response = open_stream(long_engine, LONG)  # holds the only place
    statuses: list[int] = []
    other = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False}
    waiting = [
        threading.Thread(
            target=lambda: statuses.append(call(long_engine.url, "POST", "/api/generate", {}, other).status)
        )
        for _ in recorded
    ]
    for each in waiting:
        each.start()
    wait_for(lambda: statuses.count(503) == recorded.count(503), "the others were refused")
    response.close()
    connection.close()
    for each in waiting:
        each.join(30)
    assert sorted(statuses) == recorded  # with a limit of 2, one is being loaded and two wait


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


def test_a_keep_alive_holds_until_a_request_names_another(engine: Server) -> None:
    post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": -1})
    post(engine, "/api/generate", {"model": "tiny-script", "prompt": "hi", "stream": False})
    assert loaded(engine)["tiny-script:latest"]["expires_at"].startswith("2318")
    post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": "1m"})
    assert not loaded(engine)["tiny-script:latest"]["expires_at"].startswith("2318")


def test_an_embedding_model_is_unloaded_as_any_other(engine: Server) -> None:
    post(engine, "/api/embed", {"model": "tiny-embed", "input": "a"})
    assert "tiny-embed:latest" in loaded(engine)
    post(engine, "/api/generate", {"model": "tiny-embed", "keep_alive": 0})
    assert "tiny-embed:latest" not in loaded(engine)


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
        ("/api/generate", b'{"model": "tiny-ref", "prompt": "x", "format": {"pattern": "((("}}', 400, "invalid format"),
        ("/api/generate", b'{"model": "tiny-ref", "format": {"const": -9223372036854775808}}', 400, "beyond 2^53"),
        ("/api/generate", b'{"model": "tiny-ref", "format": ' + b'{"a":' * 700 + b"1" + b"}" * 701, 400, "max depth"),
        ("/api/generate", b'{"model": "tiny-ref", "top_logprobs": 2.5}', 400, "number 2.5"),
        ("/api/copy", b'{"source": "tiny-ref", "destination": "' + b"a/" * 99 + b'a"}', 400, "is invalid"),
        ("/api/create", b'{"model": "x", "from": "tiny-ref", "adapters": {"a": "b"}}', 400, "adapters"),
        ("/v1/responses", b"{}", 404, "not offered by the embedded engine"),
        ("/v1/messages", b"{}", 404, "not offered by the embedded engine"),
        ("/v1/completions", b'{"model": "tiny-ref", "prompt": "x", "temperature": "hot"}', 400, "float64"),
    ],
)  # fmt: skip
def test_bad_input_is_told_and_breaks_nothing(
    engine: Server, path: str, body: bytes, status: int, told: str
) -> None:
    answer = call(engine.url, "POST", path, {}, body)
    assert answer.status == status
    assert told in answer.body.decode()


def test_half_a_surrogate_pair_is_read_as_u_fffd(engine: Server) -> None:
    body = b'{"model": "tiny-bos", "prompt": "\\ud800", "raw": true, "stream": false}'
    whole = b'{"model": "tiny-bos", "prompt": "\\ufffd", "raw": true, "stream": false}'
    found, expected = (
        json.loads(call(engine.url, "POST", "/api/generate", {}, each).body) for each in (body, whole)
    )
    assert found["prompt_eval_count"] == expected["prompt_eval_count"] == 4


def test_every_prompt_begins_with_the_token_that_its_model_wants(engine: Server) -> None:
    body = {"model": "tiny-bos", "stream": False}
    first = post(engine, "/api/generate", {**body, "prompt": "x"})
    assert first["context"][0] == 0
    chat = post(engine, "/api/chat", {**body, "messages": [{"role": "user", "content": "x"}]})
    assert chat["prompt_eval_count"] == first["prompt_eval_count"]
    again = post(engine, "/api/generate", {**body, "prompt": "x", "context": first["context"]})
    assert again["context"][: len(first["context"])] == first["context"]
    assert again["context"].count(0) == 1


def test_a_text_longer_than_a_batch_is_embedded_whole(engine: Server) -> None:
    body = {"model": "tiny-embed", "input": "kitchen " * 300}
    assert post(engine, "/api/embed", body)["prompt_eval_count"] > 1000
    cut = post(engine, "/api/embed", {**body, "options": {"num_ctx": 64}})
    assert cut["prompt_eval_count"] == 64


def test_a_keep_alive_beyond_go_s_clock_is_for_ever(engine: Server) -> None:
    post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": 1e300})
    assert loaded(engine)["tiny-script:latest"]["expires_at"].startswith("2318")
    post(engine, "/api/generate", {"model": "tiny-script", "keep_alive": 60})


def test_nothing_goes_on_beyond_ten_contexts_nor_with_white_space_for_ever(engine: Server) -> None:
    endless = {
        "model": "tiny-long",
        "prompt": "x",
        "stream": False,
        "options": {"num_ctx": 64, "num_predict": 10**9},
    }
    answer = post(engine, "/api/generate", endless)
    assert (answer["eval_count"], answer["done_reason"]) == (640, "length")
    blank = {
        "model": "tiny-ref",
        "prompt": "x",
        "format": "json",
        "options": {"num_predict": 2000, "temperature": 0},
    }
    lines = call(engine.url, "POST", "/api/generate", {}, blank).body.strip().split(b"\n")
    assert not json.loads(lines[-1])["done"]
    assert len(lines) < 100


def test_what_create_was_told_is_shown_and_used(engine: Server) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    body = {
        "model": "told",
        "from": "tiny-ref",
        "messages": messages,
        "license": ["MIT", "or so"],
        "system": "Be kind.",
    }
    assert call(engine.url, "POST", "/api/create", {}, body).status == 200
    shown = post(engine, "/api/show", {"model": "told"})
    assert (shown["messages"], shown["license"], shown["system"]) == (messages, "MIT\nor so", "Be kind.")
    rendered = post(engine, "/api/generate", {"model": "told", "prompt": "now", "_debug_render_only": True})
    text = rendered["_debug_info"]["rendered_template"]
    assert [text.index(each) for each in ("Be kind.", "hello", "hi", "now")] == sorted(
        text.index(each) for each in ("Be kind.", "hello", "hi", "now")
    )
    chat = {"model": "told", "messages": [{"role": "user", "content": "now"}], "stream": False}
    generated = post(engine, "/api/generate", {"model": "told", "prompt": "now", "stream": False})
    assert post(engine, "/api/chat", chat)["prompt_eval_count"] == generated["prompt_eval_count"]
    assert call(engine.url, "DELETE", "/api/delete", {}, {"model": "told"}).status == 200


def test_a_page_of_this_machine_may_ask_before_it_asks(engine: Server) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    assert call(engine.url, "OPTIONS", "/api/chat", headers, None).status == 204
    assert (
        call(engine.url, "OPTIONS", "/api/chat", {**headers, "Origin": "http://192.168.1.9"}, None).status
        == 403
    )


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, chain_models: dict[str, Path]) -> None:
    content = bytes(3 * 2**20)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    seed = f"tiny-script={chain_models['tiny-script']}"
    with Server("inference.engine", "--models", str(tmp_path), "--seed-model", seed) as server:
        before = sorted((tmp_path / "blobs").iterdir())
        # The kernel refuses to let a file of this process grow beyond it, as a full disk would.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
        upload = call(server.url, "POST", f"/api/blobs/{digest}", {}, content)
        assert upload.status == 500
        assert "File too large" in json.loads(upload.body)["error"]
        body = {"model": "x", "from": "tiny-script", "quantize": "q8_0"}
        made = call(server.url, "POST", "/api/create", {}, body).body.strip().split(b"\n")
        assert "File too large" in json.loads(made[-1])["error"]
        assert sorted((tmp_path / "blobs").iterdir()) == before
        resource.prlimit(
            server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        assert call(server.url, "POST", f"/api/blobs/{digest}", {}, content).status == 201


def test_unused_files_go_at_the_start_and_a_folder_has_one_engine(tmp_path: Path) -> None:
    seed = f"aicleaner-sample={SAMPLE}"
    arguments = ("inference.engine", "--models", str(tmp_path), "--seed-model", seed)
    with Server(*arguments):
        pass
    (kept,) = (tmp_path / "blobs").iterdir()
    (tmp_path / "blobs" / f"sha256-{'a' * 64}").write_bytes(b"uploaded, never used")
    (tmp_path / "blobs" / "partial-1").write_bytes(b"broken off")
    with Server(*arguments) as server:
        assert list((tmp_path / "blobs").iterdir()) == [kept]
        second = subprocess.run(
            server.command, capture_output=True, text=True, cwd=BASE_DIR, timeout=60, check=False
        )
        assert second.returncode == 1
        assert f"another engine serves {tmp_path}" in second.stderr
    (tmp_path / "manifests" / "odd%3Alatest.json").write_text("{")
    (tmp_path / "blobs" / f"sha256-{'a' * 64}").write_bytes(b"perhaps the odd one's")
    with Server(*arguments):
        assert len(list((tmp_path / "blobs").iterdir())) == 2


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
