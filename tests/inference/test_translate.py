"""Ollama's requests in OpenAI's words, and the answers back; requests for /v1 on their way to a cloud."""

import base64
import json
from typing import Any

import pytest

from inference.gateway.answers_of_clouds import Answer, NoAnswerError, OpenAiStream
from inference.gateway.translate import UntranslatableError, translate
from tests.inference.cloud_server import USAGE

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + b"x" * 20).decode()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 20).decode()


def body_of(path: str, *, stream: bool = False, is_openai: bool = False, **values: Any) -> dict[str, Any]:
    return translate(path, {"model": "m", **values}, "gpt", stream=stream, is_openai=is_openai).body


def test_a_chat_with_pictures_and_options() -> None:
    found = translate(
        "/api/chat",
        {
            "model": "llava",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What lies there?", "images": [JPEG, PNG]},
            ],
            "options": {
                "temperature": 0.1, "top_p": 0.9, "seed": 7, "stop": ["\n"], "num_predict": 64, "num_ctx": 4096,
                "top_k": 40, "repeat_penalty": 1.1, "x\r\ny": 1,
            },
            "keep_alive": "5m",
        },
        "gpt-4o-mini",
        stream=True,
    )  # fmt: skip
    assert found.path == "/chat/completions"
    assert found.body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What lies there?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{JPEG}"}},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.1,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "max_tokens": 64,
    }
    assert found.ignored == ["repeat_penalty", "top_k"]  # a name that would break a header is not told


def test_openai_itself_gets_the_newer_name_of_the_limit_and_no_limit_is_none() -> None:
    options = {"num_predict": 9}
    assert body_of("/api/generate", prompt="a", options=options, is_openai=True)["max_completion_tokens"] == 9
    assert (
        not {"max_tokens", "max_completion_tokens"}
        & body_of("/api/generate", prompt="a", options={"num_predict": -1}).keys()
    )


def test_generate_becomes_a_chat() -> None:
    found = body_of("/api/generate", prompt="hi", system="Be kind.", images=[JPEG])
    assert [each["role"] for each in found["messages"]] == ["system", "user"]
    assert found["messages"][1]["content"][0] == {"type": "text", "text": "hi"}
    assert "stream" not in found


@pytest.mark.parametrize(
    ("wanted", "strict"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, False),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            True,
        ),
    ],
)
def test_formats(wanted: dict[str, Any], strict: bool) -> None:
    assert body_of("/api/chat", messages=[{"role": "user", "content": "a"}], format="json")[
        "response_format"
    ] == {"type": "json_object"}
    found = body_of("/api/generate", prompt="a", format=wanted)["response_format"]
    assert found == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": wanted, "strict": strict},
    }


def test_tools_are_called_and_answered() -> None:
    call = {"function": {"name": "light", "arguments": {"on": True}}}
    found = body_of(
        "/api/chat",
        tools=[{"type": "function", "function": {"name": "light"}}],
        messages=[
            {"role": "user", "content": "on"},
            {"role": "assistant", "content": "", "tool_calls": [call, call]},
            {"role": "tool", "content": "done", "tool_name": "light"},
            {"role": "tool", "content": "done too"},
        ],
    )
    asked, first, second = found["messages"][1:]
    assert [each["id"] for each in asked["tool_calls"]] == ["call_0", "call_1"]
    assert asked["tool_calls"][0]["function"] == {"name": "light", "arguments": '{"on": true}'}
    assert (first["tool_call_id"], second["tool_call_id"]) == ("call_0", "call_1")


@pytest.mark.parametrize(
    ("path", "values", "why"),
    [
        ("/api/generate", {"prompt": "a", "raw": True}, "'raw'"),
        ("/api/generate", {"prompt": "a", "context": [1, 2]}, "'context'"),
        ("/api/generate", {"prompt": "a", "suffix": "b"}, "'suffix'"),
        ("/api/generate", {"prompt": ""}, "nothing is asked"),
        ("/api/chat", {"messages": []}, "nothing is asked"),
        ("/api/chat", {"messages": [{"content": "a"}]}, "as Ollama's API has them"),
        ("/api/chat", {"messages": [{"role": "tool", "content": "a"}]}, "before the call"),
        ("/api/chat", {"messages": [{"role": "user", "content": "a", "images": ["%%%"]}]}, "no base64"),
        (
            "/api/generate",
            {"prompt": "a", "images": [base64.b64encode(b"BM" + b"x" * 20).decode()]},
            "neither JPEG",
        ),
        ("/api/generate", {"prompt": "a", "format": "yaml"}, "'format'"),
        ("/api/generate", {"prompt": "a", "options": [1]}, "'options'"),
        ("/api/embed", {"input": ""}, "nothing is asked"),
        ("/api/create", {}, "/api/create"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_its_name(
    path: str, values: dict[str, Any], why: str
) -> None:
    with pytest.raises(UntranslatableError, match=why):
        translate(path, values, "gpt", stream=False)


def test_a_request_for_v1_loses_what_only_local_engines_know_and_asks_for_the_counts() -> None:
    values = {"model": "m", "messages": [], "options": {"num_ctx": 9}, "keep_alive": 5, "stream": True}
    found = translate("/v1/chat/completions", values, "gpt", stream=True)
    assert found.path == "/chat/completions"
    assert found.body == {
        "model": "gpt",
        "messages": [],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_whole_answer_comes_back_in_ollamas_words() -> None:
    body = {
        "choices": [{"message": {"content": "Hi.", "reasoning": "Hm."}, "finish_reason": "length"}],
        "usage": USAGE,
    }
    chat = json.loads(Answer("/api/chat", "gpt", 0.0).whole(json.dumps(body).encode()))
    assert chat["message"] == {"role": "assistant", "content": "Hi.", "thinking": "Hm."}
    assert (chat["done"], chat["done_reason"], chat["model"]) == (True, "length", "gpt")
    assert (chat["prompt_eval_count"], chat["eval_count"]) == (1000, 500)
    assert chat["total_duration"] > 0
    assert "eval_duration" not in chat
    plain = json.loads(Answer("/api/generate", "gpt", 0.0).whole(json.dumps(body).encode()))
    assert (plain["response"], plain["thinking"]) == ("Hi.", "Hm.")


def test_a_stream_comes_back_line_by_line_wherever_it_is_cut() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "light", "arguments": '{"on"'}}
    rest = {"index": 0, "function": {"arguments": ": true}"}}
    events: list[Any] = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"reasoning_content": "Hm."}}]},
        {"choices": [{"delta": {"content": "Hällo"}}]},
        {"choices": [{"delta": {"tool_calls": [call]}}]},
        {"choices": [{"delta": {"tool_calls": [rest]}}]},
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": USAGE},
    ]
    raw = (
        ": comment\r\n" + "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in events) + "data: [DONE]\n\n"
    )
    sent = raw.encode()
    for size in (1, 7, len(sent)):
        answer = Answer("/api/chat", "gpt", 0.0)
        told = (
            b"".join(answer.lines(sent[at : at + size]) for at in range(0, len(sent), size))
            + answer.last_line()
        )
        lines = [json.loads(line) for line in told.splitlines()]
        assert [each["message"]["content"] for each in lines] == ["", "Hällo", "", ""]
        assert lines[0]["message"]["thinking"] == "Hm."
        assert lines[2]["message"]["tool_calls"] == [
            {"function": {"index": 0, "name": "light", "arguments": {"on": True}}}
        ]
        assert [each["done"] for each in lines] == [False, False, False, True]
        assert (lines[3]["done_reason"], lines[3]["eval_count"]) == ("stop", 500)


# without [DONE], so that the call is made at the stream's end
UNFINISHED_CALL = (
    b"""data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "a", "arguments": "{"}}]},
 "finish_reason": "tool_calls"}]}""".replace(b"\n", b"")
    + b"\n\n"
)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b'data: {"error": {"message": "overloaded"}}\n\n', "overloaded"),
        (b"data: nonsense\n\n", "not as OpenAI's API has it"),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "ended before it was done"),
        (b'data: {"choices": 3}\n\n', "not as OpenAI's API has it"),
        (UNFINISHED_CALL, "not as OpenAI's API has it"),
    ],
)
def test_a_stream_that_is_none_says_so(sent: bytes, why: str) -> None:
    answer = Answer("/api/chat", "gpt", 0.0)

    def whole() -> bytes:
        return answer.lines(sent) + answer.last_line()

    with pytest.raises(NoAnswerError, match=why):
        whole()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": []}', b'{"choices": [{"message": null}]}'])
def test_a_whole_answer_that_is_none_says_so(body: bytes) -> None:
    with pytest.raises(NoAnswerError, match="not as OpenAI's API has it"):
        Answer("/api/chat", "gpt", 0.0).whole(body)


def test_probabilities_keep_their_shape() -> None:
    asked = body_of("/api/generate", prompt="a", logprobs=True, top_logprobs=3)
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 3)
    one = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
    body = {
        "choices": [{"message": {"content": "Hi"}, "logprobs": {"content": [one]}, "finish_reason": "stop"}]
    }
    assert json.loads(Answer("/api/generate", "gpt", 0.0).whole(json.dumps(body).encode()))["logprobs"] == [
        one
    ]


def test_embeddings_both_ways() -> None:
    found = translate("/api/embed", {"model": "m", "input": ["a", "b"], "dimensions": 8}, "emb", stream=False)
    assert (found.path, found.body) == ("/embeddings", {"model": "emb", "input": ["a", "b"], "dimensions": 8})
    body = json.dumps(
        {
            "data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}],
            "usage": {"prompt_tokens": 4},
        }
    ).encode()
    told = json.loads(Answer("/api/embed", "emb", 0.0).whole(body))
    assert (told["embeddings"], told["prompt_eval_count"]) == ([[1], [2]], 4)
    assert json.loads(Answer("/api/embeddings", "emb", 0.0).whole(body)) == {"embedding": [1]}


@pytest.mark.parametrize(("asked", "n"), [(True, 3), (False, 2)])
def test_counts_that_the_client_did_not_ask_for_stay_here(asked: bool, n: int) -> None:
    sent = b'data: {"choices": [{"delta": {"content": "a"}}], "usage": null}\n\n'
    sent += b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\ndata: [DONE]\n\n'
    stream = OpenAiStream(with_usage=asked)
    given = [piece for piece, is_given in stream.pieces(sent) if is_given]
    assert len(given) == n
    assert stream.is_over
