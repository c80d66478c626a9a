"""What one request was: its model and client, when its first byte came, how many tokens, how it ended."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.gateway.api_keys import Key
from inference.gateway.cache import Recording

# Path -> (name of the kind of work, API)
INFERENCE = {
    "/api/generate": ("generate", "ollama"),
    "/api/chat": ("chat", "ollama"),
    "/api/embed": ("embed", "ollama"),
    "/api/embeddings": ("embed", "ollama"),
    "/v1/chat/completions": ("chat", "openai"),
    "/v1/completions": ("generate", "openai"),
    "/v1/embeddings": ("embed", "openai"),
    "/v1/responses": ("chat", "openai"),
    "/v1/messages": ("chat", "anthropic"),
}
KEEP_TAIL = 2**18  # bytes of the answer's end that are kept: its last line, or a small answer as a whole
MAX_FIRST_LINE = 2**16  # beyond it no first content is looked for
# Counts in the order in which the APIs are tried; of an answer too long to be parsed they are read from its end.
PROMPT_COUNTS = ("prompt_eval_count", "prompt_tokens", "input_tokens")
OUTPUT_COUNTS = ("eval_count", "completion_tokens", "output_tokens")
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_AT_THE_END = re.compile(
    rb'(?<!\\)"(' + "|".join((*PROMPT_COUNTS, *OUTPUT_COUNTS, *DURATIONS)).encode() + rb')"\s*:\s*(\d+)'
)
END_BYTES = 2048


def is_inference(scope: Mapping[str, Any]) -> bool:
    return scope["path"] in INFERENCE and scope["method"] == "POST"


@dataclass(slots=True)
class Meter:
    """Follows one request; instants are time.monotonic(). It sees prompts pass, and keeps them by setting only."""

    request_id: str
    path: str
    client: str
    client_ip: str
    counted: bool  # whether it is inference: everything else passes through without a record
    complete: bool = False  # whether the last part of the answer was handed over
    started: float = field(default_factory=time.monotonic)
    at: float = field(default_factory=time.time)
    model: str = ""
    alias: str = ""  # the name that the client used, where it stands for another
    stream: bool = False
    tells_tokens: bool = False  # whether the stream will end with the engine's own count
    request_bytes: int = 0
    response_bytes: int = 0
    status: int = 0
    error: str = ""
    engine: str = ""
    engine_kind: str = ""
    engine_name: str = ""
    route: str = ""  # why this engine; empty: a local one, as usual
    is_pinned: bool = False  # whether the request named the engine: no other one answers
    cloud_failed: tuple[str, int] | None = None  # text and status, where a cloud was asked first
    cached_tokens: int | None = None  # of the prompt, as a cloud counts them for its price
    first_byte: float | None = None
    first_content: float | None = None
    n_chunks: int = 0
    content_type: str = ""
    encoding: str = ""  # of the answer; an encoded one can't be looked into
    profile: str | None = None
    ignored: str = (
        ""  # options that the engine has no place for: the profile's at Ollama's /v1, any at a cloud
    )
    cache: str = "bypass"
    zone: str = ""  # of a camera, as the client names it
    distance: int | None = (
        None  # between the pictures asked about and those of the kept answer; None: not compared
    )
    left: bool = False  # whether the client went away before the end
    waited_ms: float = 0.0  # for its turn, by the profile's limit of parallel requests
    recording: Recording | None = None
    slot: tuple[str, str] | None = None  # of an Ollama that it goes to: as the key of its model
    replayed: dict[str, Any] | None = None  # what the record of a kept answer said of it
    saved_ms: float = 0.0
    # Options of loading that the engine was asked with, the profile's among them; None: none was asked.
    asked: dict[str, Any] | None = None
    kept_tokens: int = 0  # at the beginning of a prompt that is cut
    prompt_bytes: int | None = None
    prompt: str | None = None  # only where the setting says that prompts are kept
    prompt_shortened: bool = False
    key: Key | None = None  # the API key that came with it
    origin: bytes = b""  # of the page that asks; empty: no page does
    is_foreign: bool = False  # whether that is a page of elsewhere
    hides_credentials: bool = False  # they are for this gateway, not for the engine
    extra_headers: tuple[tuple[bytes, bytes], ...] = ()  # of the answer: what the key's limits leave
    n_untold: int = 0  # pieces of a stream whose tokens nobody will count
    tail: bytearray = field(default_factory=bytearray)
    head: bytes = b""  # an unfinished line, while the first content is looked for

    @property
    def is_events(self) -> bool:
        return "event-stream" in self.content_type

    def read_request(self, body: bytes) -> dict[str, Any] | None:
        """Note the model and whether the answer is to be streamed; returns the request, parsed here and only here.

        None where it is none of inference, or no JSON: that is the engine's to refuse."""
        self.request_bytes = len(body)
        if not self.counted:
            return None
        kind, api = INFERENCE[self.path]
        try:
            values: dict[str, Any] = json.loads(body)
            self.model = str(values.get("model") or "")[:200]
            self.stream = kind != "embed" and bool(values.get("stream", api == "ollama"))
            options = values.get("stream_options")
            self.tells_tokens = api != "openai" or (
                isinstance(options, dict) and bool(options.get("include_usage"))
            )
        except (ValueError, AttributeError, RecursionError):
            return None
        return values

    def see(self, chunk: bytes) -> int:
        """Take note of a part of the answer; returns how many pieces of a stream it holds whose tokens the engine will
        count: the live rate shows those until the count comes."""
        if self.first_byte is None and chunk:
            self.first_byte = time.monotonic()
        self.response_bytes += len(chunk)
        if not self.counted or self.encoding:
            return 0
        self.tail += chunk
        if len(self.tail) > 2 * KEEP_TAIL:
            del self.tail[:-KEEP_TAIL]
        if not self.stream:
            return 0
        if self.first_content is None:
            self._look_for_content(chunk)
        if not self.tells_tokens:
            if self.key is not None:
                self.n_untold += chunk.count(b"data: {")
            return 0
        n_pieces = chunk.count(b"data: {") if self.is_events else chunk.count(b'"done":')
        self.n_chunks += n_pieces
        return n_pieces

    def _look_for_content(self, chunk: bytes) -> None:
        *lines, self.head = (self.head + chunk).split(b"\n")
        if any(has_content(line) for line in lines):
            self.first_content, self.head = time.monotonic(), b""
        elif len(self.head) > MAX_FIRST_LINE:
            self.head = b""

    def record(self) -> dict[str, Any]:
        """The finished request for the store. Counts and times that the engine does not tell are None."""
        total_ms = (time.monotonic() - self.started) * 1000
        last = self._last() if self.status and not self.encoding else {}
        ended = not self.stream or self._ended(last)
        told = {**last, **_usage(last)} if ended else {}
        total, load, prompt, output = (_ms(told.get(name)) for name in DURATIONS)
        queue = None
        if total is not None and load is not None and prompt is not None and output is not None:
            queue = max(total - load - prompt - output, 0.0)
        if self.waited_ms:
            queue = (queue or 0.0) + self.waited_ms
        error = self.error
        if not error and self.status >= 400:
            error = _error_text(last)
        if not error and self.status == 200 and not self.encoding and not ended:
            error = _error_text(last) or "the stream ended before it was done"
        kind, api = INFERENCE.get(self.path, ("other", "other"))
        ttft = None
        if self.first_content is not None and self.status == 200:
            ttft = (self.first_content - self.started) * 1000
        record = {
            "request_id": self.request_id,
            "at": self.at,
            "path": self.path,
            "api": api,
            "kind": kind,
            "model": self.model,
            "alias": self.alias,
            "client": self.client,
            "client_ip": self.client_ip,
            "stream": self.stream,
            "status": self.status,
            "error": error[:500],
            "done_reason": str(last.get("done_reason") or _finish_reason(last) or ""),
            "ttft_ms": ttft,
            "total_ms": total_ms,
            "load_ms": load,
            "prompt_eval_ms": prompt,
            "eval_ms": output,
            "queue_ms": queue,
            "prompt_tokens": _count(told, PROMPT_COUNTS),
            "output_tokens": _count(told, OUTPUT_COUNTS),
            "engine": self.engine,
            "engine_kind": self.engine_name,
            "route": self.route,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "cache": self.cache,
            "cache_distance": self.distance,
            "profile": self.profile,
            "prompt_bytes": self.prompt_bytes,
        }
        if self.cached_tokens is not None:
            record["cached_tokens"] = self.cached_tokens
        if self.asked is not None:
            record["kept_tokens"] = self.kept_tokens
        if self.prompt is not None:
            record["prompt"], record["prompt_shortened"] = self.prompt, self.prompt_shortened
        if self.replayed is not None:  # nothing was loaded or generated for it
            record |= {**self.replayed, "error": self.error[:500]}
        return record

    def _ended(self, last: dict[str, Any]) -> bool:
        if self.is_events:
            end = self.tail[-512:]
            return (
                b"data: [DONE]" in end or b"message_stop" in end or last.get("type") == "response.completed"
            )
        return last.get("done") is True

    def _last(self) -> dict[str, Any]:
        """The answer's last JSON object: the whole body, the last line, or the last event that counts tokens (else the
        last of all). Of one too long to be kept, what stands at its end."""
        raw = bytes(self.tail).strip()
        if self.stream and self.is_events:
            events = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: {")]
            counted = [each for each in events[-4:] if b'"usage"' in each and b'"usage":null' not in each]
            raw = (counted or events or [b""])[-1]
        elif self.stream:
            raw = raw.rpartition(b"\n")[2]
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            return _numbers_at_the_end(raw)
        return value if isinstance(value, dict) else {}


def has_content(line: bytes) -> bool:
    """Whether a line of a stream holds text, thinking or a tool call: the instant t1 of a request is the first one that does."""
    text = line.strip().removeprefix(b"data: ")
    if not text.startswith(b"{"):
        return False
    try:
        piece = json.loads(text)
    except (ValueError, RecursionError):
        return False
    choices = piece.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = piece.get("message") or choice.get("delta") or piece.get("delta") or {}
    if isinstance(message, str):  # /v1/responses: response.output_text.delta
        return bool(message)
    if not isinstance(message, dict):
        return False
    names = ("content", "thinking", "tool_calls", "reasoning", "reasoning_content", "text", "partial_json")
    return bool(
        (piece.get("response") and isinstance(piece["response"], str))
        or piece.get("thinking")
        or choice.get("text")
        or any(message.get(name) for name in names)
    )


def _numbers_at_the_end(raw: bytes) -> dict[str, Any]:
    found = {name.decode(): int(value) for name, value in _AT_THE_END.findall(raw[-END_BYTES:])}
    return found | ({"done": True} if "total_duration" in found else {})


def _usage(last: dict[str, Any]) -> dict[str, Any]:
    """Token counts as OpenAI and Anthropic nest them."""
    nested = last.get("response")
    usage = last.get("usage") or (nested.get("usage") if isinstance(nested, dict) else None)
    return usage if isinstance(usage, dict) else {}


def _finish_reason(last: dict[str, Any]) -> Any:
    choices = last.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("finish_reason") if isinstance(first, dict) else None


def _ms(ns: Any) -> float | None:
    return ns / 1e6 if isinstance(ns, int | float) else None


def _count(told: dict[str, Any], names: tuple[str, ...]) -> int | None:
    found = next((told[name] for name in names if name in told), None)
    return found if isinstance(found, int) and found >= 0 else None


def _error_text(last: dict[str, Any]) -> str:
    error = last.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else str(error or "")
