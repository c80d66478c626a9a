"""What one request was: its model and client, when its first byte came, how many tokens, how it ended."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from inference.gateway.cache import Recording

# Path -> (name of the kind of work, API). Everything else passes through without a record.
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
KEEP_TAIL = 2**20  # bytes of the answer that may hold its last line


@dataclass(slots=True)
class Meter:
    """Follows one request; instants are time.monotonic(). It sees prompts pass and keeps none."""

    request_id: str
    path: str
    client: str
    client_ip: str
    started: float = field(default_factory=time.monotonic)
    at: float = field(default_factory=time.time)
    model: str = ""
    stream: bool = False
    request_bytes: int = 0
    response_bytes: int = 0
    status: int = 0
    error: str = ""
    engine: str = ""
    engine_kind: str = ""
    first_byte: float | None = None
    n_chunks: int = 0
    content_type: str = ""
    profile: str | None = None
    ignored: str = ""  # options of the profile that Ollama's /v1 has no place for
    cache: str = "bypass"
    waited_ms: float = 0.0  # for its turn, by the profile's limit of parallel requests
    recording: Recording | None = None
    replayed: dict[str, Any] | None = None  # what the record of a kept answer said of it
    saved_ms: float = 0.0
    tail: bytearray = field(default_factory=bytearray)

    @property
    def is_inference(self) -> bool:
        return self.path in INFERENCE

    def read_request(self, body: bytes) -> dict[str, Any] | None:
        """Note the model and whether the answer is to be streamed; returns the request, parsed here and only here.

        None where it is none of inference, or no JSON: that is the engine's to refuse."""
        self.request_bytes = len(body)
        if not self.is_inference:
            return None
        try:
            values: dict[str, Any] = json.loads(body)
            self.model = str(values.get("model") or "")[:200]
            native = INFERENCE[self.path] in {("generate", "ollama"), ("chat", "ollama")}
            self.stream = bool(values.get("stream", native))
        except (ValueError, AttributeError, RecursionError):
            return None
        return values

    def see(self, chunk: bytes) -> int:
        """Take note of a part of the answer; returns how many stream pieces it holds (about one token each)."""
        if self.first_byte is None:
            self.first_byte = time.monotonic()
        self.response_bytes += len(chunk)
        if not self.is_inference:
            return 0
        self.tail += chunk
        n_pieces = 0
        if self.stream:
            n_pieces = (
                chunk.count(b"data: {") if "event-stream" in self.content_type else chunk.count(b'"done":')
            )
            self.n_chunks += n_pieces
            # Only the last lines are looked at in the end.
            if len(self.tail) > 2 * KEEP_TAIL:
                del self.tail[:-KEEP_TAIL]
        return n_pieces

    def record(self) -> dict[str, Any]:
        """The finished request for the store. Counts and times that the engine does not tell are None."""
        total_ms = (time.monotonic() - self.started) * 1000
        last = self._last() if self.status else {}
        usage = last.get("usage") or {}
        load, prompt, output = (
            _ms(last.get(name)) for name in ("load_duration", "prompt_eval_duration", "eval_duration")
        )
        engine_total = _ms(last.get("total_duration"))
        queue = None
        if None not in (engine_total, load, prompt, output):
            queue = max(engine_total - load - prompt - output, 0.0)  # type: ignore[operator]
        if self.waited_ms:
            queue = (queue or 0.0) + self.waited_ms
        error = self.error
        if not error and self.status >= 400:
            error = _error_text(last)
        if not error and self.stream and self.status == 200 and not self._ended(last):
            error = _error_text(last) or "the stream ended before it was done"
        kind, api = INFERENCE.get(self.path, ("other", "other"))
        ttft = None
        if self.stream and self.first_byte is not None and self.status == 200 and kind != "embed":
            ttft = (self.first_byte - self.started) * 1000
        record = {
            "request_id": self.request_id,
            "at": self.at,
            "path": self.path,
            "api": api,
            "kind": kind,
            "model": self.model,
            "client": self.client,
            "client_ip": self.client_ip,
            "stream": self.stream,
            "status": self.status,
            "error": error[:500],
            "done_reason": str(last.get("done_reason") or self._finish_reason(last) or ""),
            "ttft_ms": ttft,
            "total_ms": total_ms,
            "load_ms": load,
            "prompt_eval_ms": prompt,
            "eval_ms": output,
            "queue_ms": queue,
            "prompt_tokens": _count(last.get("prompt_eval_count", usage.get("prompt_tokens"))),
            "output_tokens": _count(last.get("eval_count", usage.get("completion_tokens"))),
            "engine": self.engine,
            "engine_kind": self.engine_kind,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "cache": self.cache,
            "profile": self.profile,
        }
        if self.replayed is not None:  # nothing was loaded or generated for it
            record |= {**self.replayed, "error": self.error[:500]}
        return record

    def _ended(self, last: dict[str, Any]) -> bool:
        if "event-stream" in self.content_type:
            return b"data: [DONE]" in self.tail[-64:] or b"message_stop" in self.tail[-200:]
        return last.get("done") is True

    def _finish_reason(self, last: dict[str, Any]) -> Any:
        choices = last.get("choices") or [{}]
        return choices[0].get("finish_reason") if isinstance(choices[0], dict) else None

    def _last(self) -> dict[str, Any]:
        """The answer's last JSON object: the whole body, the last line, or the last event before [DONE]."""
        raw = bytes(self.tail).strip()
        if self.stream:
            lines = [line for line in raw[-KEEP_TAIL:].split(b"\n") if line.strip()]
            if "event-stream" in self.content_type:
                lines = [line[6:] for line in lines if line.startswith(b"data: {")]
            raw = lines[-1] if lines else b""
        try:
            value = json.loads(raw)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def _ms(ns: Any) -> float | None:
    return ns / 1e6 if isinstance(ns, (int, float)) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _error_text(last: dict[str, Any]) -> str:
    error = last.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else str(error or "")
