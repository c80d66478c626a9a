"""Every recorded answer of a real Ollama server against the embedded engine: status, type, fields, order, errors.

Values that depend on the model are left out. What the engine does differently stands in DIFFERENT, with the reason,
and in docs/engine.md."""

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.inference.serving import Server

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
    "reload-matrix": "test_each_option_reloads_or_not_as_recorded",
}
BLOB_CASES = {"create-from-gguf-files", "create-nostream", "create-autodetected-template"} | {
    f"create-tiny-{name}" for name in ("embed", "repeat", "think", "tool")
}
TEMPLATES = "Go templates are not interpreted: the GGUF's own chat template is used, and `create` says so"
DIFFERENT = {
    "create-autodetected-template": TEMPLATES,
    "create-tiny-embed": TEMPLATES,
    "create-tiny-repeat": TEMPLATES,
    "create-tiny-think": TEMPLATES,
    "create-tiny-tool": TEMPLATES,
    "generate-debug-render": "`_debug_render_only` is a help for writers of Go templates",
    "tags-empty": "the engine always offers the sample model",
    "v1-models-empty": "the engine always offers the sample model",
    "cors-foreign-host-header": "checked in test_engine.py: a Host header can't be replayed here",
    "err-runner-killed-midstream-chat": "checked in test_engine.py with a real kill",
    "err-runner-killed-midstream-v1": "checked in test_engine.py with a real kill",
    "err-runner-killed-nostream": "checked in test_engine.py with a real kill",
    "cors-localhost-origin": "the engine always offers the sample model; the check itself is in test_engine.py",
    "ps-empty": "needs an engine of its own; checked in test_engine.py",
    "err-generate-format-bad-schema": "llama.cpp's own wording, which changes with its version; status is checked below",
    **dict.fromkeys(
        [case for case in CASES if case.startswith("badutf8-")],
        "the pinned llama.cpp writes U+FFFD for a byte that is no UTF-8 and goes on, where the recorded build broke off",
    ),
    "pull-offline": "nothing is pulled: there is no registry behind the embedded engine",
}
# Parts of answers that follow the model, the machine or the version.
OPEN = (
    "modelfile",
    "parameters",
    "template",
    "system",
    "model_info",
    "tensors",
    "embedding",
    "context",
    "arguments",
)


def runner_pids(engine: Server, model: str) -> list[int]:
    """Processes that hold `model` (by the blob's path in their arguments)."""
    shown = json.loads(call(engine.url, "POST", "/api/show", {}, {"model": model}).body)["modelfile"]
    path = next(line for line in shown.split("\n") if line.startswith("FROM /")).removeprefix("FROM ")
    children = psutil.Process(engine.process.pid).children()
    return [each.pid for each in children if path in " ".join(each.cmdline())]


class Answer:
    def __init__(self, status: int, kind: str, body: bytes) -> None:
        self.status, self.kind, self.body = status, kind.split(";")[0], body


def call(url: str, method: str, path: str, headers: dict[str, str], body: Any) -> Answer:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers.get("Content-Type", ""), error.read())


def shape(value: Any) -> Any:
    """Field names and types; of a list its first element, of an open part nothing."""
    if isinstance(value, dict):
        return {key: ... if key in OPEN else shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else "string"


def objects(kind: str, raw: str) -> list[Any]:
    """The JSON objects of a streamed answer, in order; [DONE] as text."""
    lines = [line for line in raw.split("\n") if line.strip()]
    if "event-stream" in kind:
        lines = [line.removeprefix("data: ") for line in lines]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


def outline(found: list[Any]) -> list[Any]:
    """Shapes of a stream with runs of like ones folded into one: how many tokens there are is the model's affair."""
    folded: list[Any] = []
    for each in found:
        one = shape(each)
        if isinstance(each, dict) and str(each.get("status", "")).startswith(
            ("using existing", "creating new", "quantizing")
        ):
            continue
        if not folded or folded[-1] != one:
            folded.append(one)
    return folded


def replay(engine: Server, exchange: dict[str, Any], case: str) -> None:
    request, expected = exchange["request"], exchange["response"]
    body = request.get("body", request.get("body_json"))
    if body is None and request.get("body_raw"):
        body = request["body_raw"].encode()
    if case in BLOB_CASES and isinstance(body, dict):
        model = json.loads(call(engine.url, "POST", "/api/show", {}, {"model": "tiny-ref"}).body)
        digest = (
            model["modelfile"]
            .split("FROM ")[-1]
            .split("\n")[0]
            .rsplit("/", 1)[-1]
            .replace("sha256-", "sha256:")
        )
        body = {**body, "model": f"made-{case}", "files": {"m.gguf": digest}}
    answer = call(engine.url, request["method"], request["path"], request.get("headers") or {}, body)
    assert answer.status == expected["status"], answer.body[:500]
    kind = (expected["headers"].get("content-type") or "").split(";")[0]
    if kind and request["method"] != "HEAD":
        assert answer.kind == kind
    if "stream_lines" in expected:
        recorded = objects(kind, "".join(line["raw"] for line in expected["stream_lines"]))
        assert outline(objects(answer.kind, answer.body.decode())) == outline(recorded)
        return
    recorded_text = expected.get("body_raw") or ""
    if not recorded_text or request["method"] == "HEAD":
        return
    if "json" not in kind:
        assert answer.body.decode() == recorded_text
        return
    recorded_json, found = json.loads(recorded_text), json.loads(answer.body)
    assert shape(found) == shape(recorded_json)
    if "error" in recorded_json and "n_prompt_tokens" not in recorded_text:
        assert found == recorded_json


@pytest.mark.parametrize("case", [each for each in CASES if each not in {*DIFFERENT, *ELSEWHERE}])
def test_the_engine_answers_as_ollama_did(engine: Server, case: str) -> None:
    transcript = json.loads((FOLDER / f"{case}.json").read_text())
    for method, path, body in BEFORE.get(case, []):
        assert call(engine.url, method, path, {}, body).status == 200
    for exchange in transcript.get("exchanges") or [transcript]:
        replay(engine, exchange, case)


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


def test_each_option_reloads_or_not_as_recorded(engine: Server) -> None:
    """The rows about one model; `draft_num_predict` needs a draft model, which the embedded engine has not."""
    rows = json.loads((FOLDER / "reload-matrix.json").read_text())["rows"]
    rows = rows[: [row["step"] for row in rows].index("raw") + 1]
    call(engine.url, "POST", "/api/generate", {}, {"model": "tiny-script", "keep_alive": 0})
    before: list[int] = []
    skip_next = False
    for row in rows:
        if "draft_num_predict" in row["options"]:
            skip_next = True
            continue
        body = {"model": "tiny-script", "prompt": "x", "stream": False, "options": row["options"]}
        assert call(engine.url, "POST", "/api/generate", {}, {**body, **row["extra"]}).status == 200
        after = runner_pids(engine, "tiny-script")
        if not skip_next:
            assert (after != before) == row["runner_restarted"], row["step"]
        skip_next, before = False, after
