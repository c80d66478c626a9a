"""A request's `options`: their types, and what each is called in llama.cpp."""

from math import isfinite
from typing import Any

from inference.engine.errors import EngineError
from inference.engine.requests import go_kind

INT32_MAX = 2**31 - 1
# Option -> (type, name in llama.cpp's request). None: it belongs to loading or to this engine.
SAMPLING: dict[str, tuple[str, str | None]] = {
    "temperature": ("float32", "temperature"),
    "top_k": ("integer", "top_k"),
    "top_p": ("float32", "top_p"),
    "min_p": ("float32", "min_p"),
    "typical_p": ("float32", "typical_p"),
    "top_n_sigma": ("float32", "top_n_sigma"),
    "xtc_probability": ("float32", "xtc_probability"),
    "xtc_threshold": ("float32", "xtc_threshold"),
    "dynatemp_range": ("float32", "dynatemp_range"),
    "dynatemp_exponent": ("float32", "dynatemp_exponent"),
    "repeat_last_n": ("integer", "repeat_last_n"),
    "repeat_penalty": ("float32", "repeat_penalty"),
    "presence_penalty": ("float32", "presence_penalty"),
    "frequency_penalty": ("float32", "frequency_penalty"),
    "dry_multiplier": ("float32", "dry_multiplier"),
    "dry_base": ("float32", "dry_base"),
    "dry_allowed_length": ("integer", "dry_allowed_length"),
    "dry_penalty_last_n": ("integer", "dry_penalty_last_n"),
    "mirostat": ("integer", "mirostat"),
    "mirostat_tau": ("float32", "mirostat_tau"),
    "mirostat_eta": ("float32", "mirostat_eta"),
    "seed": ("integer", "seed"),
    "num_keep": ("integer", "n_keep"),
    "num_predict": ("integer", None),
    "stop": ("array", "stop"),
    # Ollama does not know these; llama.cpp does.
    "min_keep": ("integer", "min_keep"),
    "adaptive_target": ("float32", "adaptive_target"),
    "adaptive_decay": ("float32", "adaptive_decay"),
    "dry_sequence_breakers": ("array", "dry_sequence_breakers"),
    "samplers": ("array", "samplers"),
    "ignore_eos": ("boolean", "ignore_eos"),
    "n_discard": ("integer", "n_discard"),
    "n_indent": ("integer", "n_indent"),
    "t_max_predict_ms": ("integer", "t_max_predict_ms"),
    "grammar": ("string", "grammar"),
    "logit_bias": ("object", "logit_bias"),
}
LOADING = {
    "num_ctx": "integer",
    "num_batch": "integer",
    "num_thread": "integer",
    "num_gpu": "integer",
    "main_gpu": "integer",
    "use_mmap": "boolean",
}
DEFAULTS: dict[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "num_keep": 4,
    "num_predict": -1,
}
TYPES = {**{name: kind for name, (kind, _) in SAMPLING.items()}, **LOADING}


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are known, in their types: 2.9 for an integer is 2, unknown names are left out.

    Raises EngineError 500 for a wrong type, as Ollama does."""
    checked: dict[str, Any] = {}
    for name, value in options.items():
        kind = TYPES.get(name)
        if kind is None or value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind == "integer" and number:
            checked[name] = max(min(int(value), INT32_MAX), -INT32_MAX)
        elif kind == "float32" and number:
            checked[name] = float(value)
        elif (kind == "boolean" and isinstance(value, bool)) or (kind == "string" and isinstance(value, str)):
            checked[name] = value
        elif kind == "object" and isinstance(value, dict):
            if not all(isinstance(each, (int, float)) for each in value.values()):
                raise EngineError(500, f'option "{name}" must map texts to numbers')
            checked[name] = value
        elif kind == "array" and isinstance(value, list):
            if not all(isinstance(each, str) for each in value):
                raise EngineError(500, f'option "{name}" must be of an array of strings')
            checked[name] = value
        else:
            raise EngineError(500, f'option "{name}" must be of type {kind}')
    return checked


def parse_parameter(name: str, value: Any) -> Any:
    """A model parameter from `create`: numbers may come as strings. Raises EngineError 400."""
    kind = TYPES.get(name)
    if kind is None:
        raise EngineError(400, f'unknown parameter "{name}"')
    try:
        if isinstance(value, str) and kind == "integer":
            value = int(value)
        elif isinstance(value, str) and kind == "float32":
            value = float(value)
            if not isfinite(value):
                raise ValueError(value)
        elif isinstance(value, str) and kind == "array":
            value = [value]
        return check_options({name: value})[name]
    except (ValueError, KeyError) as error:
        raise EngineError(400, f'parameter "{name}": expected {kind}, got {go_kind(value)}') from error


def llama_request(options: dict[str, Any], num_ctx: int) -> dict[str, Any]:
    """Fields of llama.cpp's completion request. `options` are checked and carry no null."""
    merged = {**DEFAULTS, **options}
    body = {target: merged[name] for name, (_, target) in SAMPLING.items() if target and name in merged}
    # As Ollama: 0 counts as no limit, and nothing goes on for more than ten times the context.
    most = 10 * num_ctx
    body["n_predict"] = min(merged["num_predict"], most) if merged["num_predict"] > 0 else most
    if body.get("seed", -1) < 0:
        body.pop("seed", None)
    for name in ("repeat_last_n", "dry_penalty_last_n"):
        if body.get(name, 0) < 0:  # the whole context
            body[name] = num_ctx
    if not body.get("samplers", True):  # an empty list would make temperature 0 random
        del body["samplers"]
    return body
