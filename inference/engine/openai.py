"""OpenAI's API under /v1: chat/completions, completions, embeddings, models."""

import base64
import json
import random
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from inference.engine import requests
from inference.engine.errors import EngineError
from inference.engine.generation import Chat, Event, Finish, Piece, Prompt
from inference.engine.messages import check_tools, refuse_images, tool_calls
from inference.engine.native import (
    ENGINE,
    STORE,
    embed_call,
    embedding_model,
    find_model,
    input_texts,
    new_id,
    read_schema,
    read_think,
    read_top_logprobs,
)
from inference.engine.options import LOADING, check_options
from inference.engine.requests import parse_name, read_json, unmarshal_error
from inference.engine.store import Model

OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_tokens": "num_predict",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}


def read_options(body: dict[str, Any]) -> dict[str, Any]:
    """Sampling fields as options; what OpenAI leaves out is 1.0, not Ollama's default."""
    options = {target: body[name] for name, target in OPTIONS.items() if name in body}
    options = {"temperature": 1.0, "top_p": 1.0, **loading_options(body), **options}
    stop = body.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif isinstance(stop, list) and all(isinstance(each, str) for each in stop):
        options["stop"] = stop
    elif stop is not None:
        raise EngineError(400, "invalid type for 'stop' field: a string or a list of strings is wanted")
    return check_options(options)


def loading_options(body: dict[str, Any]) -> dict[str, Any]:
    """How the model is to be loaded, from `options`: our own addition, which Ollama's /v1 has no place for."""
    options = body.get("options", {})
    return {name: options[name] for name in LOADING if name in options} if isinstance(options, dict) else {}


def read_call(request: web.Request, body: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    if not body.get("model"):
        raise EngineError(400, "model is required")
    model = find_model(request, body)
    if "completion" not in model.metadata.capabilities:
        raise EngineError(400, f'"{body["model"]}" does not support chat')
    return model, {"model": model, "options": read_options(body), "keep_alive_s": None}


async def chat_completions(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, "ChatCompletionRequest", requests.OPENAI_CHAT)
    messages = body.get("messages")
    if not messages:
        raise EngineError(400, "[] is too short - 'messages'")
    model, fields = read_call(request, body)
    tools = check_tools(body.get("tools", []))
    if tools and "tools" not in model.metadata.capabilities:
        raise EngineError(400, f"registry.ollama.ai/library/{model.name} does not support tools")
    effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    call = Chat(
        **fields,
        messages=[flat(each) for each in messages],
        tools=tools,
        schema=read_format(body.get("response_format")),
        think=read_think(False if effort == "none" else effort, model, body["model"]),
        logprobs=body.get("logprobs", False),
        top_logprobs=read_top_logprobs(body),
    )
    head = {
        "id": f"chatcmpl-{random.randint(0, 999)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "system_fingerprint": "fp_ollama",
    }
    events = request.app[ENGINE].generate(call)
    if not body.get("stream"):
        return await whole_chat(head, events)
    head["object"] = "chat.completion.chunk"
    first = True
    n_calls = 0

    def chunk(piece: Piece) -> dict[str, Any]:
        nonlocal first, n_calls
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        first = False
        if piece.thinking:
            delta |= {"content": "", "reasoning": piece.thinking}
        elif piece.tool_calls:
            delta |= {"content": "", "tool_calls": openai_tools(piece.tool_calls)}
            n_calls += len(piece.tool_calls)
        else:
            delta["content"] = piece.text
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": None}
        if piece.logprobs:
            choice["logprobs"] = {"content": piece.logprobs}
        return {**head, "choices": [choice]}

    def last(finish: Finish) -> dict[str, Any]:
        reason = "tool_calls" if n_calls else finish.reason
        return {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}

    return await sse(request, body, head, events, chunk, last)


async def whole_chat(head: dict[str, Any], events: AsyncIterator[Event]) -> web.Response:
    whole, ending = await collect(events)
    message: dict[str, Any] = {"role": "assistant", "content": whole.text}
    if whole.thinking:
        message["reasoning"] = whole.thinking
    if whole.tool_calls:
        message["tool_calls"] = openai_tools(whole.tool_calls)
    reason = "tool_calls" if whole.tool_calls else ending.reason if ending else None
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": reason}
    if whole.logprobs:
        choice["logprobs"] = {"content": whole.logprobs}
    return web.json_response({**head, "choices": [choice], "usage": usage(ending)})


async def completions(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, "CompletionRequest", requests.OPENAI_COMPLETION)
    prompt = body.get("prompt", "")
    model, fields = read_call(request, body)
    if body.get("suffix"):
        raise EngineError(400, f"registry.ollama.ai/library/{model.name} does not support insert")
    call = Prompt(**fields, prompt=prompt)
    head = {
        "id": f"cmpl-{random.randint(0, 999)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body["model"],
        "system_fingerprint": "fp_ollama",
    }
    events = request.app[ENGINE].generate(call)
    if not body.get("stream"):
        whole, ending = await collect(events)
        choice = {"text": whole.text, "index": 0, "finish_reason": ending.reason if ending else None}
        return web.json_response({**head, "choices": [choice], "usage": usage(ending)})
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    zero = {"usage": usage(None)} if wants_usage else {}

    def chunk(piece: Piece) -> dict[str, Any]:
        return {**head, "choices": [{"text": piece.text, "index": 0, "finish_reason": None}], **zero}

    def last(finish: Finish) -> dict[str, Any]:
        return {**head, "choices": [{"text": "", "index": 0, "finish_reason": finish.reason}], **zero}

    return await sse(request, body, head, events, chunk, last)


async def collect(events: AsyncIterator[Event]) -> tuple[Piece, Finish | None]:
    whole, ending = Piece(), None
    async for event in events:
        if isinstance(event, Finish):
            ending = event
            continue
        whole.text += event.text
        whole.thinking += event.thinking
        whole.tool_calls += event.tool_calls
        whole.logprobs += event.logprobs
    return whole, ending


async def sse(
    request: web.Request,
    body: dict[str, Any],
    head: dict[str, Any],
    events: AsyncIterator[Event],
    chunk: Callable[[Piece], dict[str, Any]],
    last: Callable[[Finish], dict[str, Any]],
) -> web.StreamResponse:
    response: web.StreamResponse | None = None
    try:
        async for event in events:
            if isinstance(event, Piece) and not (event.text or event.thinking or event.tool_calls):
                continue
            if response is None:
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await response.prepare(request)
            await send(response, chunk(event) if isinstance(event, Piece) else last(event))
            if isinstance(event, Finish):
                if (body.get("stream_options") or {}).get("include_usage"):
                    await send(response, {**head, "choices": [], "usage": usage(event)})
                await response.write(b"data: [DONE]\n\n")
    except EngineError as error:
        if response is None:
            raise
        await send(response, {"error": openai_error(error)})
    if response is None:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
    await response.write_eof()
    return response


async def send(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")


async def embeddings(request: web.Request) -> web.Response:
    body = await read_json(request, "EmbedRequest", requests.OPENAI_EMBED)
    texts = input_texts(body.get("input"))
    if not texts:
        raise EngineError(400, "invalid input")
    model = embedding_model(request, body)
    call = embed_call(request, {"options": loading_options(body)}, model, time.monotonic())
    vectors, n_tokens = await request.app[ENGINE].embed(call, texts, body.get("dimensions"))
    as_base64 = body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "embedding": base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode()
            if as_base64
            else each,
            "index": index,
        }
        for index, each in enumerate(vectors)
    ]
    counted = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return web.json_response({"object": "list", "data": data, "model": body["model"], "usage": counted})


async def models(request: web.Request) -> web.Response:
    found = [describe(each, str(each.name)) for each in request.app[STORE].all()]
    return web.json_response({"object": "list", "data": found or None})


async def model(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    found = request.app[STORE].find(name)
    if found is None:
        raise EngineError(404, f"model '{parse_name(name) or name}' not found")
    return web.json_response(describe(found, name))


def describe(found: Model, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(found.modified_at.timestamp()),
        "owned_by": "library",
    }


def flat(message: Any) -> dict[str, Any]:
    """A message whose text parts are joined. Raises EngineError 400 for images."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise EngineError(400, "invalid message format: each message is an object with a role")
    content = message.get("content") or ""
    if isinstance(content, list):
        if not all(isinstance(each, dict) and each.get("type") == "text" for each in content):
            refuse_images()
        content = "".join(str(each.get("text", "")) for each in content)
    if not isinstance(content, str):
        raise EngineError(400, f"invalid message content type: {type(content).__name__}")
    result = {"role": message["role"], "content": content}
    for name, target in (
        ("reasoning", "reasoning_content"),
        ("name", "name"),
        ("tool_call_id", "tool_call_id"),
    ):
        if not isinstance(message.get(name, ""), str | None):
            raise unmarshal_error(message[name], f"Message.messages.{name}", "string")
        if message.get(name):
            result[target] = message[name]
    return (
        {**result, "tool_calls": tool_calls(message["tool_calls"])} if message.get("tool_calls") else result
    )


def read_format(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    if value.get("type") == "json_object":
        return {"type": "object"}
    if value.get("type") == "json_schema":
        named = value.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if not isinstance(schema, dict):
            raise EngineError(400, "response_format.json_schema.schema: a JSON schema object is wanted")
        return read_schema(schema)
    return None


def openai_tools(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "id": new_id("call_"),
            "index": number,
            "type": "function",
            "function": {
                "name": each["name"],
                "arguments": json.dumps(each["arguments"], separators=(",", ":")),
            },
        }
        for number, each in enumerate(calls)
    ]


def usage(finish: Finish | None) -> dict[str, int]:
    prompt, output = (finish.prompt_tokens, finish.output_tokens) if finish else (0, 0)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def openai_error(error: EngineError) -> dict[str, Any]:
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    return {
        "message": error.message,
        "type": kinds.get(error.status, "api_error"),
        "param": None,
        "code": None,
    }
