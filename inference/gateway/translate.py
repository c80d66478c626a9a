"""Requests in Ollama's words put into OpenAI's. Pure; `answers_of_clouds` goes the other way."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

# What only says how a local model is loaded: a cloud has loaded its own.
LOADING = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "use_mmap", "use_mlock", "numa"}
    | {"low_vram", "f16_kv", "vocab_only", "draft_num_predict"}
)
SAME = ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty")
# What a request for /v1 may carry for a local engine only (a profile's options among it).
LOCAL_FIELDS = frozenset({"options", "keep_alive", "num_ctx", "truncate"})
EFFORTS = ("low", "medium", "high")
PICTURES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png"), (b"RIFF", "webp"), (b"GIF8", "gif"))
PATHS = {
    "/api/chat": "/chat/completions",
    "/api/generate": "/chat/completions",
    "/api/embed": "/embeddings",
    "/api/embeddings": "/embeddings",
}


class UntranslatableError(Exception):
    """Says what of the request has no counterpart."""


@dataclass(frozen=True, slots=True)
class Translated:
    """`path` below the cloud's address; `ignored`: options without a counterpart that change the choice of words only."""

    path: str
    body: dict[str, Any]
    ignored: list[str] = field(default_factory=list)


def translate(
    path: str, values: dict[str, Any], model: str, *, stream: bool, is_openai: bool = False
) -> Translated:
    """`values`: a request for `path` of Ollama or of OpenAI; `model`: as the cloud calls it. `is_openai`: whether the cloud is
    OpenAI itself, whose newer models refuse the older name of the limit. Raises UntranslatableError."""
    if path.startswith("/v1/"):
        return _openai(path, values, model, stream=stream)
    if path not in PATHS:
        raise UntranslatableError(f"{path} has no counterpart in OpenAI's API")
    if path in {"/api/embed", "/api/embeddings"}:
        return _embedding(path, values, model)
    try:
        messages = _messages(values) if path == "/api/chat" else _prompt(values)
    except (TypeError, AttributeError, KeyError) as error:
        raise UntranslatableError(f"the messages are not as Ollama's API has them ({error})") from error
    if not messages:
        raise UntranslatableError("nothing is asked: a cloud has no model to load or unload")
    body: dict[str, Any] = {"model": model, "messages": messages}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    ignored = _options(values.get("options"), body, is_openai=is_openai)
    if values.get("tools"):
        body["tools"] = values["tools"]
    if (wanted := _format(values.get("format"))) is not None:
        body["response_format"] = wanted
    if values.get("think") in EFFORTS:
        body["reasoning_effort"] = values["think"]
    elif values.get("think") is not None:
        ignored.append("think")
    if values.get("logprobs"):
        body["logprobs"] = True
        if values.get("top_logprobs"):
            body["top_logprobs"] = values["top_logprobs"]
    return Translated(PATHS[path], body, ignored)


def _openai(path: str, values: dict[str, Any], model: str, *, stream: bool) -> Translated:
    body = {name: value for name, value in values.items() if name not in LOCAL_FIELDS} | {"model": model}
    if stream and path in {"/v1/chat/completions", "/v1/completions"}:
        # Without it nobody knows what the answer costs; who did not ask for it does not get it.
        options = values.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return Translated(path.removeprefix("/v1"), body)


def _prompt(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Of /api/generate."""
    for name in ("raw", "context", "template", "suffix"):
        if values.get(name):
            raise UntranslatableError(f"'{name}' of /api/generate has no counterpart in OpenAI's API")
    prompt, images = values.get("prompt") or "", values.get("images")
    if not prompt and not images:
        return []
    system = [{"role": "system", "content": values["system"]}] if values.get("system") else []
    return [*system, {"role": "user", "content": _content(prompt, images)}]


def _messages(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Of /api/chat. OpenAI ties a tool's result to its call by an id, Ollama by the order, or the name of the tool."""
    found: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []  # (id, name) of calls without a result yet
    n_calls = 0
    for message in values.get("messages") or []:
        role = message["role"]
        told: dict[str, Any] = {
            "role": role,
            "content": _content(message.get("content") or "", message.get("images")),
        }
        if role == "assistant" and message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                name, arguments = call["function"]["name"], call["function"].get("arguments") or {}
                call_id, n_calls = call.get("id") or f"call_{n_calls}", n_calls + 1
                calls.append(
                    {
                        "id": call_id,
                        "type": "function",
                        "function": {"name": name, "arguments": json.dumps(arguments)},
                    }
                )
                waiting.append((call_id, name))
            told["tool_calls"] = calls
        elif role == "tool":
            told["tool_call_id"] = message.get("tool_call_id") or _answered(waiting, message.get("tool_name"))
        found.append(told)
    return found


def _answered(waiting: list[tuple[str, str]], name: str | None) -> str:
    index = next((i for i, each in enumerate(waiting) if name in (None, "", each[1])), None)
    if index is None:
        raise UntranslatableError("a tool's result stands before the call that it answers")
    return waiting.pop(index)[0]


def _content(text: str, images: Any) -> Any:
    if not images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(each)}} for each in images]
    return [*([{"type": "text", "text": text}] if text else []), *pictures]


def _data_url(image: Any) -> str:
    try:
        head = base64.b64decode(image[:16], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise UntranslatableError("a picture is no base64 text") from error
    kind = next((name for magic, name in PICTURES if head.startswith(magic)), None)
    if kind is None:
        raise UntranslatableError("a picture is neither JPEG, PNG, WebP nor GIF")
    return f"data:image/{kind};base64,{image}"


def _options(options: Any, body: dict[str, Any], *, is_openai: bool) -> list[str]:
    """Sets in `body` what has a counterpart; returns the names of what has none."""
    if options is None:
        return []
    if not isinstance(options, dict):
        raise UntranslatableError("'options' is no object")
    body |= {name: options[name] for name in SAME if options.get(name) is not None}
    limit = options.get("num_predict")
    if isinstance(limit, int | float) and limit > 0:  # else as much as the model likes
        body["max_completion_tokens" if is_openai else "max_tokens"] = int(limit)
    others = sorted(options.keys() - LOADING - {*SAME, "num_predict"})
    return [name for name in others if name.isascii() and name.isidentifier()][
        :20
    ]  # they come back in a header


def _format(wanted: Any) -> dict[str, Any] | None:
    if wanted in (None, ""):
        return None
    if wanted == "json":
        return {"type": "json_object"}
    if isinstance(wanted, dict):
        schema = {"name": "answer", "schema": wanted, "strict": _is_closed(wanted)}
        return {"type": "json_schema", "json_schema": schema}
    raise UntranslatableError("'format' is neither \"json\" nor a JSON schema")


def _is_closed(schema: Any) -> bool:
    """Whether clouds can hold the answer to it strictly: every object names all of its fields, and wants them."""
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, dict):
        return True
    if "properties" in schema or schema.get("type") == "object":
        wanted = set(schema.get("required") or ())
        if schema.get("additionalProperties") is not False or wanted != set(schema.get("properties") or ()):
            return False
    return all(map(_is_closed, schema.values()))


def _embedding(path: str, values: dict[str, Any], model: str) -> Translated:
    asked = values.get("input") if path == "/api/embed" else values.get("prompt")
    if not asked:
        raise UntranslatableError("nothing is asked: a cloud has no model to load or unload")
    body: dict[str, Any] = {"model": model, "input": asked}
    if values.get("dimensions"):
        body["dimensions"] = values["dimensions"]
    return Translated(PATHS[path], body)
