"""Ollama's own API: generate, chat, embed, embeddings."""

import json
import secrets
import string
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from inference.engine import requests
from inference.engine.errors import EngineError
from inference.engine.generation import Call, Chat, Engine, Finish, Piece, Prompt
from inference.engine.messages import check_tools, openai_message, refuse_images
from inference.engine.options import check_options
from inference.engine.requests import keep_alive_s, read_json
from inference.engine.store import Model, ModelStore

ENGINE = web.AppKey("engine", Engine)
STORE = web.AppKey("store", ModelStore)


def now_text() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def find_model(request: web.Request, body: dict[str, Any]) -> Model:
    name = body.get("model", "")
    if name and requests.parse_name(name) is None:
        raise EngineError(400, "invalid model name")
    model = request.app[STORE].find(name)
    if model is None:
        raise EngineError(404, f"model '{name}' not found")
    return model


def read_schema(value: Any) -> dict[str, Any] | None:
    """`format`: "json" or a JSON schema. Raises EngineError 500 for anything else."""
    if value is None or value == "":
        return None
    if value == "json":
        return {"type": "object"}
    if isinstance(value, dict):
        if has_huge_integer(value):
            raise EngineError(400, "invalid format: an integer in the schema is beyond 2^53")
        return value
    raise EngineError(
        500, f'invalid format: {json.dumps(json.dumps(value))}; expected "json" or a valid JSON Schema object'
    )


def read_top_logprobs(body: dict[str, Any]) -> int:
    n_top = body.get("top_logprobs", 0)
    if not 0 <= n_top <= 20:
        raise EngineError(400, "top_logprobs must be between 0 and 20")
    return int(n_top)


def has_huge_integer(schema: Any) -> bool:
    """Such a one, e.g. -2^63 in an `enum`, ends llama.cpp's process."""
    if isinstance(schema, (dict, list)):
        return any(
            has_huge_integer(each) for each in (schema.values() if isinstance(schema, dict) else schema)
        )
    return isinstance(schema, int) and abs(schema) > 2**53


def check_think(value: Any) -> None:
    """Raises EngineError 400 for what is neither a boolean nor a known effort."""
    if value is None or isinstance(value, bool) or value in ("high", "medium", "low", "max"):
        return
    if isinstance(value, str):
        raise EngineError(
            400,
            f'invalid think value: {json.dumps(value)} (must be "high", "medium", "low", "max", true, or false)',
        )
    raise EngineError(
        400, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'
    )


def read_think(value: Any, model: Model, name: str) -> bool | str | None:
    check_think(value)
    if value and "thinking" not in model.metadata.capabilities:
        raise EngineError(400, f'"{name}" does not support thinking')
    return value  # type: ignore[no-any-return]


def common(request: web.Request, body: dict[str, Any], model: Model) -> dict[str, Any]:
    """Fields that generate and chat share, checked in the order in which Ollama checks them."""
    return {
        "model": model,
        "keep_alive_s": keep_alive_s(body.get("keep_alive")),
        "truncate": body.get("truncate", True),
        "shift": body.get("shift", True),
        "logprobs": body.get("logprobs", False),
        "top_logprobs": read_top_logprobs(body),
        "think": read_think(body.get("think"), model, body["model"]),
        "options": check_options(body.get("options", {})),
        "schema": read_schema(body.get("format")),
    }


def durations(call: Call, finish: Finish) -> dict[str, int]:
    """Integers in ns, as Ollama names them."""
    return {
        "total_duration": int((time.monotonic() - call.started) * 1e9),
        "load_duration": max(int(call.load_s * 1e9), 1),
        "prompt_eval_count": finish.prompt_tokens,
        "prompt_eval_duration": int(finish.prompt_ms * 1e6),
        "eval_count": finish.output_tokens,
        "eval_duration": int(finish.output_ms * 1e6),
    }


async def generate(request: web.Request) -> web.StreamResponse:
    started = time.monotonic()
    body = await read_json(request, "GenerateRequest", requests.GENERATE)
    keep = keep_alive_s(body.get("keep_alive"))
    check_think(body.get("think"))
    model = find_model(request, body)
    name, prompt = body["model"], body.get("prompt", "")
    if (
        not prompt and keep == 0
    ):  # before it asks what the model can do: embedding models are unloaded by it as well
        await request.app[ENGINE].scheduler.unload(model)
        return only_loading({"model": name, "response": ""}, "unload")
    if "completion" not in model.metadata.capabilities:
        raise EngineError(400, f'"{name}" does not support generate')
    if body.get("suffix"):
        raise EngineError(400, f"registry.ollama.ai/library/{model.name} does not support insert")
    raw = body.get("raw", False)
    if raw and (body.get("system") or body.get("template") or body.get("context")):
        raise EngineError(400, "raw mode does not support template, system, or context")
    if body.get("images"):
        refuse_images()
    call = Prompt(
        **common(request, body, model),
        started=started,
        prompt=prompt,
        system=body.get("system"),
        raw=raw,
        context=body.get("context", []),
    )
    if not prompt:
        return await load_or_unload(request, call, {"model": name, "response": ""})
    if body.get("_debug_render_only"):
        rendered = {"rendered_template": await request.app[ENGINE].render(call)}
        head = {"model": name, "created_at": now_text(), "response": "", "done": False}
        return web.json_response({**head, "_debug_info": rendered})

    tokens: list[int] = []

    def line(piece: Piece) -> dict[str, Any]:
        tokens.extend(piece.tokens)
        found: dict[str, Any] = {"response": piece.text}
        if piece.thinking:
            found["thinking"] = piece.thinking
        return found

    def last(finish: Finish) -> dict[str, Any]:
        context = {} if raw else {"context": [*call.prompt_ids, *tokens]}
        return {
            "response": "",
            "done": True,
            "done_reason": finish.reason,
            **context,
            **durations(call, finish),
        }

    return await answer(request, body, call, line, last, empty={"response": ""})


async def chat(request: web.Request) -> web.StreamResponse:
    started = time.monotonic()
    body = await read_json(request, "ChatRequest", requests.CHAT)
    keep_alive_s(body.get("keep_alive"))
    check_think(body.get("think"))
    if not body.get("model"):
        raise EngineError(400, "model is required")
    model, name = find_model(request, body), body["model"]
    tools = check_tools(body.get("tools", []))
    if "completion" not in model.metadata.capabilities:
        raise EngineError(400, f'"{name}" does not support chat')
    if tools and "tools" not in model.metadata.capabilities:
        raise EngineError(400, f"registry.ollama.ai/library/{model.name} does not support tools")
    messages = [openai_message(each) for each in body.get("messages", [])]
    call = Chat(**common(request, body, model), started=started, messages=messages, tools=tools)
    nothing = {"message": {"role": "assistant", "content": ""}}
    if not messages:
        return await load_or_unload(request, call, {"model": name, **nothing})

    def line(piece: Piece) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": piece.text}
        if piece.thinking:
            message["thinking"] = piece.thinking
        if piece.tool_calls:
            message["tool_calls"] = [
                {"id": new_id("call_"), "function": {"index": number, **each}}
                for number, each in enumerate(piece.tool_calls)
            ]
        return {"message": message}

    def last(finish: Finish) -> dict[str, Any]:
        return {**nothing, "done": True, "done_reason": finish.reason, **durations(call, finish)}

    return await answer(request, body, call, line, last, empty=nothing)


def new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


async def load_or_unload(request: web.Request, call: Call, fields: dict[str, Any]) -> web.Response:
    """An empty prompt loads the model; with keep_alive 0 it unloads it. One JSON object without durations."""
    engine = request.app[ENGINE]
    reason = "unload" if call.keep_alive_s == 0 else "load"
    if reason == "unload":
        await engine.scheduler.unload(call.model)
    else:
        await engine.load(call)
    return only_loading(fields, reason)


def only_loading(fields: dict[str, Any], reason: str) -> web.Response:
    head = {"model": fields.pop("model"), "created_at": now_text()}
    return web.json_response({**head, **fields, "done": True, "done_reason": reason})


async def answer(
    request: web.Request,
    body: dict[str, Any],
    call: Call,
    line: Any,
    last: Any,
    empty: dict[str, Any],
) -> web.StreamResponse:
    """Stream lines, or gather them into one object."""
    events = request.app[ENGINE].generate(call)
    if not body.get("stream", True):
        return await gathered(body, events, line, last, empty)
    response: web.StreamResponse | None = None
    try:
        async for event in events:
            fields = line(event) if isinstance(event, Piece) else last(event)
            if isinstance(event, Piece) and not (event.text or event.thinking or event.tool_calls):
                continue  # a token inside a character: nothing to show yet
            if (
                response is None
            ):  # headers go out with the first token, so an error before it keeps its status
                response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
                await response.prepare(request)
            head = {"model": body["model"], "created_at": now_text(), **fields}
            if isinstance(event, Piece):
                head["done"] = False
                if event.logprobs:
                    head["logprobs"] = event.logprobs
            await response.write(json.dumps(head, ensure_ascii=False).encode() + b"\n")
    except EngineError as error:
        if response is None:
            raise
        await response.write(json.dumps({"error": error.message}).encode() + b"\n")
    if response is None:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
    await response.write_eof()
    return response


async def gathered(
    body: dict[str, Any], events: AsyncIterator[Piece | Finish], line: Any, last: Any, empty: dict[str, Any]
) -> web.Response:
    whole, ending = Piece(), None
    async for event in events:
        if isinstance(event, Finish):
            ending = event
            continue
        whole.text += event.text
        whole.thinking += event.thinking
        whole.tool_calls += event.tool_calls
        whole.logprobs += event.logprobs
        whole.tokens += event.tokens
    fields = line(whole)
    result = {"model": body["model"], "created_at": now_text(), **empty, "done": False}
    if ending is not None:
        result |= last(ending)
    result |= fields
    if whole.logprobs:
        result["logprobs"] = whole.logprobs
    return web.json_response(result, dumps=lambda value: json.dumps(value, ensure_ascii=False))


async def embed(request: web.Request) -> web.Response:
    started = time.monotonic()
    body = await read_json(request, "EmbedRequest", requests.EMBED)
    texts = input_texts(body.get("input"))
    model = embedding_model(request, body)
    call = embed_call(request, body, model, started)
    vectors, n_tokens = (
        await request.app[ENGINE].embed(call, texts, body.get("dimensions")) if texts else ([], 0)
    )
    result: dict[str, Any] = {"model": body["model"], "embeddings": vectors}
    if texts:
        result |= {
            "total_duration": int((time.monotonic() - started) * 1e9),
            "load_duration": max(int(call.load_s * 1e9), 1),
            "prompt_eval_count": n_tokens,
        }
    return web.json_response(result)


async def embeddings(request: web.Request) -> web.Response:
    """The older endpoint: one prompt, one vector."""
    body = await read_json(request, "EmbeddingRequest", requests.EMBEDDINGS)
    model = embedding_model(request, body)
    call = embed_call(request, body, model, time.monotonic())
    prompt = body.get("prompt", "")
    vectors, _ = await request.app[ENGINE].embed(call, [prompt], None) if prompt else ([[]], 0)
    return web.json_response({"embedding": vectors[0]})


def input_texts(value: Any) -> list[str]:
    """Texts to embed; an empty one counts as none. Raises EngineError 400."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise EngineError(400, "invalid input type")


def embedding_model(request: web.Request, body: dict[str, Any]) -> Model:
    name = body.get("model", "")
    model = request.app[STORE].find(name)
    if model is None:
        raise EngineError(404, f'model "{name}" not found, try pulling it first')
    if not model.metadata.is_embedding:
        raise EngineError(501, "This server does not support embeddings. Start it with `--embeddings`")
    return model


def embed_call(request: web.Request, body: dict[str, Any], model: Model, started: float) -> Call:
    return Call(
        model,
        check_options(body.get("options", {})),
        keep_alive_s(body.get("keep_alive")),
        truncate=body.get("truncate", True),
        started=started,
    )
