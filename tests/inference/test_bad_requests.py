"""Whole requests with something wrong in one or two places: an answer in Ollama's form, and the engine goes on."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inference.serving import Server
from tests.inference.test_transcripts import call

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 40),
    st.sampled_from([-(2**63), 2**31, 10**30, 1e300, -1e300, 0.5]),
    st.text(max_size=6),
    st.sampled_from(["", "json", "5m", "-1", "\ud800", "../../etc", "a" * 300, "user", "tool", "tiny-think"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "role", "a"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip

OPTIONS = {
    "num_ctx": 128,
    "num_keep": 2,
    "num_predict": 5,
    "temperature": 0.5,
    "stop": ["a"],
    "samplers": ["top_k"],
    "dry_sequence_breakers": ["a"],
    "logit_bias": {"a": 1},
    "seed": 1,
}
COMMON = {
    "stream": False,
    "keep_alive": "1m",
    "options": OPTIONS,
    "format": {"type": "object", "properties": {"a": {"enum": ["x"]}}},
    "think": False,
    "truncate": True,
    "shift": True,
    "logprobs": True,
    "top_logprobs": 2,
}
CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
TOOLS = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
]
MESSAGES = [
    {"role": "system", "content": "x"},
    {"role": "user", "content": "x", "images": []},
    {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": CALLS},
    {"role": "tool", "content": "y", "tool_name": "f"},
    {"role": "user", "content": "x"},
]
OPENAI_MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "me"},
    {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": CALLS},
    {"role": "tool", "content": "y", "tool_call_id": "1"},
]
OPENAI = {
    "stream": False,
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "stop": ["a"],
    "stream_options": {"include_usage": True},
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
VALID: dict[str, dict[str, Any]] = {
    "/api/generate": {**COMMON, "model": "tiny-script", "prompt": "x", "system": "x", "context": [1], "images": []},
    "/api/chat": {**COMMON, "logprobs": False, "model": "tiny-tool", "messages": MESSAGES, "tools": TOOLS},
    "/api/embed": {"model": "tiny-embed", "input": ["x", "y"], "dimensions": 4, "truncate": True, "options": OPTIONS},
    "/api/embeddings": {"model": "tiny-embed", "prompt": "x", "keep_alive": 60, "options": OPTIONS},
    "/api/show": {"model": "tiny-script", "verbose": True},
    "/api/copy": {"source": "tiny-script", "destination": "copied"},
    "/api/create": {
        "model": "made",
        "from": "tiny-script",
        "quantize": "q8_0",
        "parameters": OPTIONS,
        "messages": MESSAGES,
        "license": ["x"],
        "system": "x",
        "template": "x",
        "files": {},
        "stream": False,
    },
    "/v1/chat/completions": {
        **OPENAI,
        "model": "tiny-tool",
        "messages": OPENAI_MESSAGES,
        "tools": TOOLS,
        "response_format": SCHEMA,
        "reasoning": {"effort": "none"},
        "reasoning_effort": "none",
        "logprobs": False,
        "top_logprobs": 2,
    },
    "/v1/completions": {**OPENAI, "model": "tiny-script", "prompt": "x", "suffix": "", "logprobs": 1},
    "/v1/embeddings": {"model": "tiny-embed", "input": ["x"], "dimensions": 4, "encoding_format": "base64"},
}  # fmt: skip
ODD_STATUSES = {400, 404, 500, 501}


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value within `value`."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@pytest.fixture(scope="module")
def robust_engine(
    tmp_path_factory: pytest.TempPathFactory, chain_models: dict[str, Path]
) -> Iterator[Server]:
    names = ("tiny-script", "tiny-tool", "tiny-think", "tiny-embed")
    seeds = [word for name in names for word in ("--seed-model", f"{name}={chain_models[name]}")]
    models = str(tmp_path_factory.mktemp("robust"))
    with Server("inference.engine", "--models", models, "--max-loaded", "4", *seeds) as server:
        yield server


@pytest.mark.parametrize("path", VALID)
def test_the_request_to_be_spoilt_is_good(robust_engine: Server, path: str) -> None:
    answer = call(robust_engine.url, "POST", path, {}, VALID[path])
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("path", VALID)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spoilt_request_gets_an_answer(robust_engine: Server, path: str, data: st.DataObject) -> None:
    body = copy.deepcopy(VALID[path])
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(places(body)))
        container[key] = data.draw(ANYTHING)
    answer = call(robust_engine.url, "POST", path, {}, body)
    text = answer.body.decode()
    assert "internal error" not in text, Path(robust_engine.log.name).read_text()[-3000:]
    assert "unexpected EOF" not in text, "the model's process died"
    if answer.status == 200:
        return
    assert answer.status in ODD_STATUSES, text
    error = json.loads(text)["error"]
    assert error["message"] if path.startswith("/v1/") else error
