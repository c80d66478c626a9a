"""What the gateway notes of an answer: by the transcripts of a real Ollama, and by answers of any kind."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.gateway.meter import INFERENCE, KEEP_TAIL, Meter, has_content

TRANSCRIPTS = sorted(Path(__file__).with_name("transcripts").glob("*.json"))


def meter_of(path: str, body: Any, kind: str, status: int = 200) -> Meter:
    meter = Meter("id", path, "client", "ip", counted=True)
    meter.read_request(json.dumps(body).encode())
    meter.status, meter.content_type = status, kind
    return meter


def streams() -> list[Any]:
    """(name, request, content type, raw lines) of each recorded stream of an inference path."""
    found = []
    for file in TRANSCRIPTS:
        case = json.loads(file.read_text())
        request, answer = case.get("request") or {}, case.get("response") or {}
        if request.get("path") in INFERENCE and "stream_lines" in answer and answer["status"] == 200:
            lines = [each["line"] if "line" in each else each["raw"] for each in answer["stream_lines"]]
            lines = [line.rstrip("\n") for line in lines]
            found.append(pytest.param(request, answer["headers"]["content-type"], lines, id=file.stem))
    return found


@pytest.mark.parametrize(("request_", "kind", "lines"), streams())
def test_a_recorded_stream_is_read_as_its_engine_meant_it(request_: Any, kind: str, lines: list[str]) -> None:
    meter = meter_of(request_["path"], request_["body"], kind)
    first = None
    for number, line in enumerate(lines):
        meter.see(line.encode() + b"\n")
        if meter.first_content is not None and first is None:
            first = number
    record = meter.record()
    objects = [json.loads(line.removeprefix("data: ")) for line in lines if "{" in line]
    told = [each for each in objects if each.get("eval_count") or each.get("usage")]
    count = (told[-1].get("eval_count") or told[-1]["usage"].get("completion_tokens")) if told else None
    assert record["output_tokens"] == count
    ended = "data: [DONE]" in lines or any(each.get("done") is True for each in objects)
    assert (record["error"] == "") == ended
    with_content = [number for number, line in enumerate(lines) if has_content(line.encode())]
    assert first == (with_content[0] if with_content else None)
    assert (record["ttft_ms"] is None) == (not with_content)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"model":"m","response":"","done":false}', False),
        (b'{"model":"m","response":"Hi","done":false}', True),
        (b'{"model":"m","response":"","thinking":"hm","done":false}', True),
        (b'{"model":"m","response":"","done":true,"eval_count":3}', False),
        (b'{"message":{"role":"assistant","content":""},"done":false}', False),
        (b'{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}', True),
        (b'{"message":{"role":"assistant","content":"","tool_calls":[{"function":{}}]},"done":false}', True),
        (b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}', False),
        (b'data: {"choices":[{"delta":{"content":"Hi"}}]}', True),
        (b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}', True),
        (b'data: {"choices":[{"text":"Hi"}]}', True),
        (b'data: {"choices":[],"usage":{"completion_tokens":3}}', False),
        (b'data: {"type":"response.output_text.delta","delta":"Hi"}', True),
        (b'data: {"type":"response.created","response":{"id":"x"}}', False),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}', True),
        (b'data: {"type":"message_start","message":{"content":[]}}', False),
        (b"data: [DONE]", False),
        (b"event: ping", False),
    ],
)
def test_the_first_token_is_the_first_text_thinking_or_tool_call(line: bytes, expected: bool) -> None:
    assert has_content(line) is expected


def test_the_head_of_a_stream_is_not_its_first_token() -> None:
    meter = meter_of("/v1/chat/completions", {"model": "m", "stream": True}, "text/event-stream")
    parts = [
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"H',  # a line may come in parts
        b'i"}}]}\n\n',
    ]
    known = []
    for part in parts:
        meter.see(part)
        known.append(meter.record()["ttft_ms"])
    assert meter.first_byte is not None
    assert known[:2] == [None, None]
    assert known[2] > (meter.first_byte - meter.started) * 1000


def test_pieces_are_no_tokens_where_the_engine_will_not_count_them() -> None:
    piece = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
    for options, n in ((None, 0), ({"include_usage": True}, 1)):
        body = {"model": "m", "stream": True, "stream_options": options}
        meter = meter_of("/v1/chat/completions", body, "text/event-stream")
        assert meter.see(piece) == n
        meter.see(b"data: [DONE]\n\n")
        assert meter.record()["output_tokens"] is None
        assert meter.record()["error"] == ""


def test_a_stream_that_broke_off_tells_no_count() -> None:
    meter = meter_of("/v1/completions", {"model": "m", "stream": True}, "text/event-stream")
    meter.see(b'data: {"choices":[{"text":"Hi"}],"usage":{"prompt_tokens":0,"completion_tokens":0}}\n\n')
    record = meter.record()
    assert (record["output_tokens"], record["error"]) == (None, "the stream ended before it was done")


def test_counts_of_the_other_apis_are_read_where_they_nest_them() -> None:
    meter = meter_of("/v1/responses", {"model": "m", "stream": True}, "text/event-stream")
    usage = {"input_tokens": 7, "output_tokens": 3}
    last = {"type": "response.completed", "response": {"usage": usage}}
    meter.see(b"event: response.completed\ndata: " + json.dumps(last).encode() + b"\n\n")
    record = meter.record()
    assert (record["prompt_tokens"], record["output_tokens"], record["error"]) == (7, 3, "")
    meter = meter_of("/v1/messages", {"model": "m", "stream": True}, "text/event-stream")
    meter.see(b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n')
    meter.see(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert (meter.record()["output_tokens"], meter.record()["error"]) == (5, "")


@pytest.mark.parametrize("mib", [1, 30])
def test_of_a_huge_answer_the_end_is_kept_and_tells_its_counts(mib: int) -> None:
    meter = meter_of("/api/embed", {"model": "m"}, "application/json")
    meter.see(b'{"model":"m","embeddings":[[')
    for _ in range(mib * 64):
        meter.see(b"0.123456789," * 1365)
        assert len(meter.tail) <= 3 * KEEP_TAIL
    meter.see(b'1]],"total_duration":9000000,"load_duration":1000000,"prompt_eval_count":12}')
    record = meter.record()
    assert (record["prompt_tokens"], record["load_ms"], record["error"]) == (12, 1.0, "")


def test_an_encoded_answer_is_not_guessed_at() -> None:
    meter = meter_of("/api/generate", {"model": "m"}, "application/x-ndjson")
    meter.encoding = "gzip"
    meter.see(b"\x1f\x8b\x08 no line, no count")
    record = meter.record()
    assert (record["output_tokens"], record["ttft_ms"], record["error"]) == (None, None, "")


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=20),
    st.sampled_from(sorted(INFERENCE)),
    st.booleans(),
)
def test_a_meter_takes_any_answer_without_falling(chunks: list[bytes], path: str, events: bool) -> None:
    meter = meter_of(path, {"stream": True}, "text/event-stream" if events else "application/x-ndjson")
    for chunk in chunks:
        meter.see(chunk)
    record = meter.record()
    assert record["response_bytes"] == sum(map(len, chunks))
    json.dumps(record, allow_nan=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "message", "usage", "response", "error", "eval_count", "done", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(sorted(INFERENCE)), st.booleans())
def test_a_meter_takes_any_json_without_falling(value: Any, path: str, events: bool) -> None:
    meter = meter_of(path, {"stream": True}, "text/event-stream" if events else "application/x-ndjson")
    meter.see((b"data: " if events else b"") + json.dumps(value).encode() + b"\n")
    record = json.loads(json.dumps(meter.record(), allow_nan=False))
    assert record["path"] == path


@given(st.binary(max_size=100) | JSON.map(lambda each: json.dumps(each).encode()))
def test_any_request_body_is_read_without_falling(body: bytes) -> None:
    Meter("id", "/v1/chat/completions", "c", "i", counted=True).read_request(body)
