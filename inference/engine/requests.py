"""Reading a request as Ollama (a Go program) reads it: same types, same complaints."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from inference.engine.errors import EngineError

FOREVER = float("inf")
LONGEST_S = 9e9  # Go counts durations in 64 bits of nanoseconds: 292 years
LONGEST_NUMBER = 300  # digits of an integer that is a float64 for sure
LONGEST_NAME = 200  # it has to fit into a file name, escaped
_GO_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "int": (int, float),  # a fraction gets a complaint of its own
    "[]int": (list,),
    "[]api.Message": (list,),
    "[]api.ImageData": (list,),
    "api.Tools": (list,),
    "map[string]interface {}": (dict,),
    "map[string]string": (dict,),
    "float64": (int, float),
    "openai.StreamOptions": (dict,),
    "openai.ResponseFormat": (dict,),
    "openai.Reasoning": (dict,),
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")

GENERATE = {
    "model": "string",
    "prompt": "string",
    "suffix": "string",
    "system": "string",
    "template": "string",
    "context": "[]int",
    "stream": "bool",
    "raw": "bool",
    "truncate": "bool",
    "shift": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
    "images": "[]api.ImageData",
    "options": "map[string]interface {}",
}
CHAT = {
    "model": "string",
    "messages": "[]api.Message",
    "stream": "bool",
    "truncate": "bool",
    "shift": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
    "tools": "api.Tools",
    "options": "map[string]interface {}",
}
EMBED = {
    "model": "string",
    "truncate": "bool",
    "dimensions": "int",
    "options": "map[string]interface {}",
}
EMBEDDINGS = {"model": "string", "prompt": "string", "options": "map[string]interface {}"}
CREATE = {
    "model": "string",
    "name": "string",
    "from": "string",
    "quantize": "string",
    "quantization": "string",
    "template": "string",
    "system": "string",
    "stream": "bool",
    "files": "map[string]string",
    "parameters": "map[string]interface {}",
    "adapters": "map[string]string",
    "messages": "[]api.Message",
}
OPENAI = {
    "model": "string",
    "stream": "bool",
    "stream_options": "openai.StreamOptions",
    "max_tokens": "int",
    "seed": "int",
    "temperature": "float64",
    "top_p": "float64",
    "frequency_penalty": "float64",
    "presence_penalty": "float64",
}
OPENAI_CHAT = {
    **OPENAI,
    "messages": "[]api.Message",
    "tools": "api.Tools",
    "response_format": "openai.ResponseFormat",
    "reasoning": "openai.Reasoning",
    "reasoning_effort": "string",
    "logprobs": "bool",
    "top_logprobs": "int",
}
OPENAI_COMPLETION = {**OPENAI, "prompt": "string", "suffix": "string", "logprobs": "int"}
OPENAI_EMBED = {"model": "string", "dimensions": "int", "encoding_format": "string"}
NAMED = {"model": "string", "name": "string", "verbose": "bool", "stream": "bool"}
COPY = {"source": "string", "destination": "string"}


def go_kind(value: Any) -> str:
    """Name of a JSON value's kind in Go's messages."""
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "number"


async def read_json(request: web.Request, struct: str, fields: dict[str, str]) -> dict[str, Any]:
    """The body as an object whose fields have the types that `fields` names; null counts as absent.

    Raises EngineError 400 as Ollama words it."""
    raw = await request.read()
    if not raw.strip():
        raise EngineError(400, "missing request body")
    try:
        body = json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise EngineError(400, "invalid character in request body: it is not UTF-8") from error
    except json.JSONDecodeError as error:
        rest = error.doc[error.pos :].lstrip()
        unterminated = not rest or error.msg.startswith("Unterminated")
        wrong = f"invalid character {rest[:1]!r} looking for beginning of value"
        raise EngineError(400, "unexpected EOF" if unterminated else wrong) from error
    except RecursionError as error:
        raise EngineError(400, "exceeded max depth") from error
    if not isinstance(body, dict):
        raise EngineError(400, f"json: cannot unmarshal {go_kind(body)} into Go value of type api.{struct}")
    if re.search(rb"\\u[dD]", raw):  # perhaps half a surrogate pair, which no text can hold: Go reads U+FFFD
        text = json.dumps(body, ensure_ascii=False)
        body = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    body = {name: value for name, value in body.items() if value is not None}
    for name, go_type in fields.items():
        if name not in body:
            continue
        value: Any = body[name]
        types = _GO_TYPES[go_type]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise unmarshal_error(value, f"{struct}.{name}", go_type)
        integers: Any = value if go_type == "[]int" else [value] if go_type == "int" else []
        for element in integers:
            if not isinstance(element, int) or isinstance(element, bool):
                raise unmarshal_error(element, f"{struct}.{name}", "int")
    for number, image in enumerate(body.get("images", [])):
        _check_image(image, f"{struct}.images.{number}")
    return body


def unmarshal_error(value: Any, field: str, go_type: str) -> EngineError:
    """Go's complaint about a value of the wrong type."""
    kind = go_kind(value)
    if isinstance(value, float) and go_type == "int":
        kind = f"number {value}"
    return EngineError(400, f"json: cannot unmarshal {kind} into Go struct field {field} of type {go_type}")


def _refuse_constant(text: str) -> None:
    raise EngineError(400, f"invalid character '{text[0]}' looking for beginning of value")


def _finite(text: str) -> float:
    value = float(text)
    if value in (FOREVER, -FOREVER):
        shown = text if len(text) < 40 else f"{text[:20]}..."
        raise EngineError(400, f"json: cannot unmarshal number {shown} into Go value of type float64")
    return value


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        _finite(text)
    return int(text)


def _check_image(image: Any, where: str) -> None:
    try:
        base64.b64decode(image, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise EngineError(
            400,
            f"json: cannot unmarshal {go_kind(image)} into {where} of type api.ImageData:"
            " illegal base64 data at input byte 0",
        ) from error


def go_duration(text: str) -> float:
    """'1h30m' -> 5400.0 seconds. Raises EngineError 400 with Go's words."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", rest)
    if not parts or "".join(a + b for a, b in parts) != rest:
        missing = re.fullmatch(r"\d+\.?\d*|\.\d+", rest)
        raise EngineError(
            400, f"time: {'missing unit in' if missing else 'invalid'} duration {json.dumps(text)}"
        )
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def keep_alive_s(value: Any) -> float | None:
    """Seconds that a model stays after the answer: number = seconds, string = Go duration, negative = for ever; None: as
    it was."""
    if value is None:
        return None
    if isinstance(value, str):
        seconds = go_duration(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise EngineError(400, f"invalid duration type: {go_kind(value)}")
    return FOREVER if not 0 <= seconds < LONGEST_S else seconds


@dataclass(frozen=True)
class Name:
    """A model's name, written out: `llava` is `llava:latest`."""

    path: str
    tag: str

    def __str__(self) -> str:
        return f"{self.path}:{self.tag}"


def parse_name(text: str) -> Name | None:
    """None when it is no valid name: at most host/namespace/model, letters, digits and `._-`, 200 characters in all."""
    if len(text) > LONGEST_NAME:
        return None
    text = text.removeprefix("registry.ollama.ai/").removeprefix("library/")
    path, _, tag = text.rpartition(":") if ":" in text.rsplit("/", 1)[-1] else (text, "", "latest")
    parts = path.split("/")
    if len(parts) > 3 or not all(len(part) <= 80 and _NAME.match(part) for part in [*parts, tag]):
        return None
    return Name(path, tag)
