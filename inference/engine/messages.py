"""Messages of a chat, from Ollama's form into the one that llama.cpp reads (OpenAI's)."""

import json
from contextlib import suppress
from typing import Any, NoReturn

from inference.engine.errors import EngineError
from inference.engine.requests import unmarshal_error

ROLES = {"system", "user", "assistant", "tool"}
FIELDS = {"role": "string", "content": "string", "thinking": "string", "tool_name": "string"}


def refuse_images() -> NoReturn:
    """The store holds one GGUF file per model, so there is never an image projector."""
    message = "Multimodal data provided, but model does not support multimodal requests."
    error = {"code": 400, "message": message, "type": "invalid_request_error"}
    raise EngineError(400, json.dumps({"error": error}, separators=(",", ":")))


def openai_message(message: Any) -> dict[str, Any]:
    """Raises EngineError 400 for what is no message."""
    if not isinstance(message, dict):
        raise unmarshal_error(message, "ChatRequest.messages", "api.Message")
    message = {name: value for name, value in message.items() if value is not None}
    for name in FIELDS:
        if not isinstance(message.get(name, ""), str):
            raise unmarshal_error(message[name], f"Message.messages.{name}", "string")
    result: dict[str, Any] = {"role": message.get("role", ""), "content": message.get("content", "")}
    if result["role"] not in ROLES:
        raise EngineError(400, f'invalid role: "{result["role"]}"; expected system, user, assistant or tool')
    if message.get("images"):
        refuse_images()
    if message.get("thinking"):
        result["reasoning_content"] = message["thinking"]
    if message.get("tool_name"):
        result["name"] = message["tool_name"]
    if message.get("tool_calls"):
        result["tool_calls"] = tool_calls(message["tool_calls"])
    return result


def tool_calls(value: Any) -> list[dict[str, Any]]:
    """Earlier calls of the model, handed back by the client."""
    found = []
    for number, call in enumerate(value if isinstance(value, list) else [value]):
        function = call.get("function") if isinstance(call, dict) else call
        if not isinstance(function, dict):
            raise unmarshal_error(function, "Message.messages.tool_calls", "api.ToolCall")
        name, arguments = function.get("name") or "", function.get("arguments") or {}
        if isinstance(arguments, str):  # OpenAI's form
            with suppress(ValueError):
                arguments = json.loads(arguments)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise unmarshal_error(function, "Message.messages.tool_calls.function", "api.ToolCallFunction")
        found.append(
            {
                "id": str(call.get("id") or f"call_{number}"),
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
        )
    return found


def check_tools(tools: list[Any]) -> list[dict[str, Any]]:
    """Raises EngineError 400 for a tool that is none."""
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise unmarshal_error(tool, "ChatRequest.tools", "api.Tool")
    return tools
