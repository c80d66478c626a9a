"""Every recorded answer of a real Ollama server against the embedded engine: status, type, fields, order, errors.

Values that depend on the model are left out. What the engine does differently stands in DIFFERENT, with the reason,
and in docs/engine.md."""

import hashlib
import json
import threading
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference.engine.catalog import TEMPLATE_NOTE
from tests.inference.serving import Server
from tests.product import wait_for

FOLDER = Path(__file__).with_name("transcripts")
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))
# Steps before a case, so that each stands alone.
BEFORE: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "delete": [("POST", "/api/copy", {"source": "tiny-ref", "destination": "tiny-copy:v1"})],
    "delete-name-field": [("POST", "/api/copy", {"source": "tiny-ref", "destination": "tiny-ref-ns"})],
    "show-tiny-ref_q4_K_M": [
        ("POST", "/api/create", {"model": "tiny-ref", "from": "tiny-ref", "system": "You help."}),
        ("POST", "/api/create", {"model": "tiny-ref:q4_K_M", "from": "tiny-ref", "quantize": "q4_K_M"}),
    ],
    "show-verbose": [
        ("POST", "/api/create", {"model": "tiny-ref", "from": "tiny-ref", "system": "You help."})
    ],
    "err-create-quantize-already-quantized": [
        ("POST", "/api/create", {"model": "tiny-ref:q8_0", "from": "tiny-ref", "quantize": "q8_0"})
    ],
    "ps-loaded": [("POST", "/api/generate", {"model": "tiny-ref"})],
    "ps-after": [("POST", "/api/generate", {"model": "tiny-repeat"})],
}
# Recorded as measurements or steps rather than as one exchange: each has a test of its own.
ELSEWHERE = {
    "blob-upload": "test_a_blob_is_uploaded_once_as_recorded",
    "client-disconnect-midstream": "test_engine.py: test_a_client_that_leaves_stops_its_generation",
    "client-disconnect-nonstream": "test_engine.py: test_a_client_that_leaves_before_the_answer_stops_its_generation",
    "queue-cold-maxqueue2-parallel1": "test_engine.py: test_too_many_requests_that_wait_for_a_load_get_503",
    "queue-warm-maxqueue2-parallel1": "test_engine.py: test_requests_to_a_loaded_model_queue_without_a_limit",
    **dict.fromkeys(
        ["err-runner-killed-midstream-chat", "err-runner-killed-midstream-v1", "err-runner-killed-nostream"],
        "test_a_killed_model_process_answers_as_recorded",
    ),
    "reload-matrix": "test_each_option_reloads_or_not_as_recorded",
}
BLOB_CASES = {"create-from-gguf-files", "create-nostream", "create-autodetected-template"} | {
    f"create-tiny-{name}" for name in ("embed", "repeat", "think", "tool")
}
# Answers of a server without models.
EMPTY = {"tags-empty", "v1-models-empty", "ps-empty", "cors-localhost-origin"}
# Only the wording of the inner error is llama.cpp's own, which changes with its version.
OWN_WORDING = {"err-generate-format-bad-schema"}
DIFFERENT = {
    **dict.fromkeys(
        [case for case in CASES if case.startswith("badutf8-")],
        "the pinned llama.cpp writes U+FFFD for a byte that is no UTF-8 and goes on, where the recorded build broke off",
    ),
    "pull-offline": "nothing is pulled: there is no registry behind the embedded engine",
}
# Parts of answers that follow the model, the machine or the version.
OPEN = {
    "modelfile",
    "parameters",
    "template",
    "system",
    "model_info",
    "tensors",
    "embedding",
    "embeddings",
    "context",
    "arguments",
}
# Texts and numbers that are the same for every model.
FIXED = {
    "done_reason",
    "finish_reason",
    "format",
    "index",
    "object",
    "owned_by",
    "role",
    "status",
    "type",
}
# These say here what they said there.
SCRIPTED = {"tiny-script", "tiny-think", "tiny-utf8"}
# The recorded tiny-ref went on for ever, and closed its braces at once; ours does neither.
ENDLESS = {"model": "tiny-long"}
KILLED = {**ENDLESS, "max_tokens": 40_000, "options": {"num_predict": 40_000, "num_ctx": 4096}}
CHANGED: dict[str, dict[str, Any]] = {
    "generate-shift-past-num_ctx": ENDLESS,
    "generate-shift-false-past-num_ctx": ENDLESS,
    "err-runner-killed-midstream-chat": KILLED,
    "err-runner-killed-midstream-v1": KILLED,
    "err-runner-killed-nostream": KILLED,
    "chat-format-schema-stream": {"options": {"temperature": 0, "num_predict": 400}},
}
SAID = {"response", "content", "thinking", "reasoning", "text", "name", "eval_count", "completion_tokens"}
LAYERS = (
    "using existing layer",
    "creating new layer",
    "quantizing",
    "using autodetected template",
    TEMPLATE_NOTE,
)


def runner_pids(engine: Server, model: str) -> list[int]:
    """Processes that hold `model` (by the blob's path in their arguments)."""
    shown = json.loads(call(engine.url, "POST", "/api/show", {}, {"model": model}).body)["modelfile"]
    path = next(line for line in shown.split("\n") if line.startswith("FROM /")).removeprefix("FROM ")
    children = psutil.Process(engine.process.pid).children()
    return [each.pid for each in children if path in " ".join(each.cmdline())]


class Answer:
    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.kind = str(headers.get("Content-Type", "")).split(";")[0]
        self.origin = headers.get("Access-Control-Allow-Origin")


def call(url: str, method: str, path: str, headers: dict[str, str], body: Any) -> Answer:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def shape(value: Any, key: str = "", *, scripted: bool = False) -> Any:
    """Field names and types, with the values that do not depend on the model; of a list its first element, of an open
    part nothing. What a scripted model says is no matter of chance, so its words count too."""
    if isinstance(value, dict):
        return {
            name: ... if name in OPEN else shape(each, name, scripted=scripted)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [shape(value[0], key, scripted=scripted)] if value else []
    if isinstance(value, bool) or value is None or key in FIXED or (scripted and key in SAID):
        return value
    if isinstance(value, (int, float)):
        return "number" if isinstance(value, float) or key == "logprob" else "integer"
    return "string"


def objects(kind: str, raw: str) -> list[Any]:
    """The JSON objects of a streamed answer, in order; [DONE] as text."""
    lines = [line for line in raw.split("\n") if line.strip()]
    if "event-stream" in kind:
        lines = [line.removeprefix("data: ") for line in lines]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


def outline(found: list[Any], *, scripted: bool) -> list[Any]:
    """Shapes of a stream; runs of like ones are folded into one, because how many tokens there are is the model's affair."""
    folded: list[Any] = []
    for each in found:
        if isinstance(each, dict) and str(each.get("status", "")).startswith(LAYERS):
            continue
        one = shape(each, scripted=scripted)
        if not folded or folded[-1] != one:
            folded.append(one)
    return folded


def read_model_digest(engine: Server) -> str:
    shown = json.loads(call(engine.url, "POST", "/api/show", {}, {"model": "tiny-ref"}).body)["modelfile"]
    blob = next(line for line in shown.split("\n") if line.startswith("FROM /"))
    return str(blob.rsplit("/", 1)[-1].replace("sha256-", "sha256:"))


def recorded_body(exchange: dict[str, Any], case: str) -> Any:
    request = exchange["request"]
    body = request.get("body", request.get("body_json"))
    if body is None and request.get("body_raw"):
        return request["body_raw"].encode()
    return {**body, **CHANGED.get(case, {})} if isinstance(body, dict) else body


def replay(engine: Server, exchange: dict[str, Any], case: str) -> None:
    request, body = exchange["request"], recorded_body(exchange, case)
    if case in BLOB_CASES and isinstance(body, dict):
        body = {**body, "model": f"made-{case}", "files": {"m.gguf": read_model_digest(engine)}}
    answer = call(engine.url, request["method"], request["path"], request.get("headers") or {}, body)
    compare(answer, request, exchange["response"], case)


def compare(answer: Answer, request: dict[str, Any], expected: dict[str, Any], case: str) -> None:
    assert answer.status == expected["status"], answer.body[:500]
    recorded_headers = expected["headers"]
    kind = (recorded_headers.get("content-type") or "").split(";")[0]
    if kind and request["method"] != "HEAD":
        assert answer.kind == kind
    assert answer.origin == recorded_headers.get("access-control-allow-origin")
    body = request.get("body") or {}
    scripted = isinstance(body, dict) and body.get("model") in SCRIPTED
    if "stream_lines" in expected:
        recorded = objects(kind, "".join(line.get("raw", "") for line in expected["stream_lines"]))
        found = objects(answer.kind, answer.body.decode())
        assert outline(found, scripted=scripted) == outline(recorded, scripted=scripted)
        return
    recorded_text = expected.get("body_raw") or ""
    if not recorded_text or request["method"] == "HEAD":
        return
    if "json" not in kind:
        assert answer.body.decode() == recorded_text
        return
    recorded_json, found_json = json.loads(recorded_text), json.loads(answer.body)
    assert shape(found_json, scripted=scripted) == shape(recorded_json, scripted=scripted)
    if "error" in recorded_json and case not in OWN_WORDING and "n_prompt_tokens" not in recorded_text:
        assert found_json == recorded_json


@pytest.mark.parametrize("case", [each for each in CASES if each not in {*DIFFERENT, *ELSEWHERE}])
def test_the_engine_answers_as_ollama_did(engine: Server, empty_engine: Server, case: str) -> None:
    transcript = json.loads((FOLDER / f"{case}.json").read_text())
    for method, path, body in BEFORE.get(case, []):
        assert call(engine.url, method, path, {}, body).status == 200
    for exchange in transcript.get("exchanges") or [transcript]:
        replay(empty_engine if case in EMPTY else engine, exchange, case)


@pytest.mark.parametrize("case", sorted({**DIFFERENT, **ELSEWHERE}))
def test_each_exception_names_a_recorded_case(case: str) -> None:
    assert case in CASES


def test_a_byte_that_is_no_utf_8_does_not_end_the_answer(engine: Server) -> None:
    body = {"model": "tiny-badutf8", "prompt": "x", "stream": False, "options": {"temperature": 0}}
    answer = json.loads(call(engine.url, "POST", "/api/generate", {}, body).body)
    assert (answer["response"], answer["done"]) == ("abc\ufffdx", True)


def test_a_blob_is_uploaded_once_as_recorded(engine: Server) -> None:
    recorded = json.loads((FOLDER / "blob-upload.json").read_text())
    content = b"some bytes of a model"
    path = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    found = [
        call(engine.url, method, path, {}, body).status
        for method, body in (("HEAD", None), ("POST", content), ("HEAD", None), ("POST", content))
    ]
    assert found == [*recorded["statuses"][:3], 200]


@pytest.mark.parametrize("case", [each for each in ELSEWHERE if each.startswith("err-runner-killed")])
def test_a_killed_model_process_answers_as_recorded(engine: Server, case: str) -> None:
    """The same error, and the next request loads the model again."""
    first, following = json.loads((FOLDER / f"{case}.json").read_text())["exchanges"]
    load = {"model": "tiny-long", "options": KILLED["options"]}
    assert call(engine.url, "POST", "/api/generate", {}, load).status == 200
    (before,) = runner_pids(engine, "tiny-long")
    answers: list[Answer] = []
    path, body = first["request"]["path"], recorded_body(first, case)
    asking = threading.Thread(target=lambda: answers.append(call(engine.url, "POST", path, {}, body)))
    asking.start()
    process = psutil.Process(before)
    wait_for(lambda: process.cpu_percent(0.05) > 50, "the model generates")
    process.kill()
    asking.join(30)
    (answer,) = answers
    if path.startswith("/v1/"):  # our own last event; Ollama sends an empty piece there
        sent, _, last = answer.body.strip().rpartition(b"\n\n")
        assert json.loads(last.removeprefix(b"data: "))["error"]["message"].endswith("unexpected EOF")
        answer.body = sent
    compare(answer, first["request"], first["response"], case)
    short = {**following["request"]["body"], **ENDLESS}
    again = call(engine.url, "POST", following["request"]["path"], {}, short)
    compare(again, following["request"], following["response"], case)
    assert runner_pids(engine, "tiny-long") not in ([before], [])


def test_each_option_reloads_or_not_as_recorded(engine: Server) -> None:
    """Row by row; `draft_num_predict` needs a draft model, which the embedded engine has not."""
    rows = json.loads((FOLDER / "reload-matrix.json").read_text())["rows"]
    for body in (
        {"model": "tiny-copyfrom", "from": "tiny-script", "parameters": {"num_ctx": 1024}},
        {"model": "tiny-script:q8_0", "from": "tiny-script", "quantize": "q8_0"},
    ):
        assert call(engine.url, "POST", "/api/create", {}, body).status == 200
    call(engine.url, "POST", "/api/generate", {}, {"model": "tiny-script", "keep_alive": 0})
    before: list[int] = []
    skip_next = False
    for row in rows:
        if "draft_num_predict" in row.get("options", {}):
            skip_next = True
            continue
        if "options" not in row:  # an embedding, refused
            found = call(engine.url, "POST", "/api/embed", {}, {"model": "tiny-script", "input": "x"})
            assert found.status == row["status"]
            continue
        name = next(
            (
                name
                for name in ("tiny-copyfrom", "tiny-script:q8_0")
                if name.removeprefix("tiny-script:").removeprefix("tiny-") in row["step"]
            ),
            "tiny-script",
        )
        body = {"model": name, "prompt": "x", "stream": False, "options": row["options"]}
        assert call(engine.url, "POST", "/api/generate", {}, {**body, **row["extra"]}).status == 200
        after = runner_pids(engine, name)
        if not skip_next:
            assert (after != before) == row["runner_restarted"], row["step"]
        skip_next = False
        if name != "tiny-script:q8_0":
            before = after
