"""Every recorded answer of a real Ollama server against the embedded engine: status, type, fields, order, errors.

Values that depend on the model are left out. What the engine does differently stands in DIFFERENT, with the reason,
and in docs/engine.md."""

import json
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

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


class Answer:
    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.kind = str(headers.get("Content-Type", "")).split(";")[0]


def call(url: str, method: str, path: str, headers: dict[str, str], body: Any) -> Answer:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


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


@pytest.mark.parametrize("case", [each for each in CASES if each not in DIFFERENT])
def test_the_engine_answers_as_ollama_did(engine: Server, case: str) -> None:
    transcript = json.loads((FOLDER / f"{case}.json").read_text())
    for method, path, body in BEFORE.get(case, []):
        assert call(engine.url, method, path, {}, body).status == 200
    for exchange in transcript.get("exchanges") or [transcript]:
        replay(engine, exchange, case)


@pytest.mark.parametrize("case", sorted(DIFFERENT))
def test_each_difference_names_a_recorded_case(case: str) -> None:
    assert case in CASES
