"""Answers in OpenAI's words put into Ollama's, whole or as they stream. Pure but for the time of day in `created_at`.

Of Ollama's times only the total is told: a cloud tells none of the others, and they are not made up."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from inference.gateway.meter import DURATIONS


class NoAnswerError(Exception):
    """The cloud's answer makes no sense."""


def events(buffer: bytearray) -> Iterator[bytes]:
    """The data of each whole event in `buffer`, from which it is taken away; comments and names of events are passed over."""
    while (end := buffer.find(b"\n")) >= 0:
        line = bytes(buffer[:end]).strip()
        del buffer[: end + 1]
        if line.startswith(b"data:"):
            yield line[5:].strip()


class Answer:
    """The answer to one request for `path`, by `model`. `started`: time.monotonic() of the request."""

    def __init__(self, path: str, model: str, started: float) -> None:
        self.path, self.model, self.started = path, model, started
        self.is_over = False
        self._reason = ""
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._buffer = bytearray()

    def whole(self, body: bytes) -> bytes:
        """Raises NoAnswerError."""
        try:
            found = json.loads(body)
            if self.path == "/api/embed":
                return self._json({"embeddings": _vectors(found), **self._counts(found, prompt_only=True)})
            if self.path == "/api/embeddings":
                return json.dumps({"embedding": _vectors(found)[0]}).encode()
            choice = found["choices"][0]
            message = choice["message"]
            for index, call in enumerate(message.get("tool_calls") or ()):
                self._add_call({"index": index, **call})
            self._reason = str(choice.get("finish_reason") or "stop")
            told = self._piece(message.get("content") or "", _thinking(message), self._made_calls())
            if logprobs := (choice.get("logprobs") or {}).get("content"):
                told["logprobs"] = logprobs
            return self._json({**told, **self._end(), **self._counts(found)})
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise NoAnswerError(
                f"its answer is not as OpenAI's API has it ({type(error).__name__}: {error})"
            ) from error

    def lines(self, chunk: bytes) -> bytes:
        """What a part of the stream comes to, in lines of JSON; maybe nothing yet. Raises NoAnswerError."""
        self._buffer += chunk
        return _joined(line for data in events(self._buffer) for line in self._event(data))

    def last_line(self) -> bytes:
        """Once the stream is over, where no [DONE] came. Raises NoAnswerError for one that broke off."""
        if self.is_over:
            return b""
        if not self._reason:
            raise NoAnswerError("its stream ended before it was done")
        return _joined(self._over())

    def _event(self, data: bytes) -> Iterator[bytes]:
        if data == b"[DONE]":
            yield from self._over()
            return
        found = json.loads(data)
        if error := found.get("error"):
            raise NoAnswerError(str(error.get("message") if isinstance(error, dict) else error))
        if found.get("usage"):
            self._usage = found
        choice = next(iter(found.get("choices") or ()), None)
        if choice is None:
            return
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        self._reason = str(choice.get("finish_reason") or self._reason)
        text, thinking = delta.get("content") or "", _thinking(delta)
        if text or thinking:
            told = {**self._piece(text, thinking, []), "done": False}
            if logprobs := (choice.get("logprobs") or {}).get("content"):
                told["logprobs"] = logprobs
            yield self._json(told)

    def _over(self) -> Iterator[bytes]:
        """Tool calls come whole, as Ollama gives them; then the end."""
        self.is_over = True
        if calls := self._made_calls():
            yield self._json({**self._piece("", "", calls), "done": False})
        yield self._json({**self._piece("", "", []), **self._end(), **self._counts(self._usage)})

    def _json(self, told: dict[str, Any]) -> bytes:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        created = {} if self.path == "/api/embed" else {"created_at": now}
        return json.dumps({"model": self.model, **created, **told}).encode()

    def _piece(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if self.path == "/api/generate":
            return {"response": text, **more}
        if calls:
            more["tool_calls"] = calls
        return {"message": {"role": "assistant", "content": text, **more}}

    def _end(self) -> dict[str, Any]:
        reason = "stop" if self._reason in {"tool_calls", "function_call"} else self._reason or "stop"
        return {"done": True, "done_reason": reason}

    def _counts(self, found: dict[str, Any], *, prompt_only: bool = False) -> dict[str, Any]:
        total_ns = int((time.monotonic() - self.started) * 1e9)
        usage = found.get("usage") or {}
        counts = {"prompt_eval_count": usage.get("prompt_tokens")}
        if not prompt_only:
            counts["eval_count"] = usage.get("completion_tokens")
        return {DURATIONS[0]: total_ns, **{name: n for name, n in counts.items() if n is not None}}

    def _add_call(self, part: dict[str, Any]) -> None:
        function = part.get("function") or {}
        index = part.get("index")
        call = self._calls.setdefault(
            len(self._calls) if index is None else index, {"name": "", "arguments": ""}
        )
        call["name"] = call["name"] or function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _made_calls(self) -> list[dict[str, Any]]:
        return [
            {
                "function": {
                    "index": index,
                    "name": each["name"],
                    "arguments": json.loads(each["arguments"] or "{}"),
                }
            }
            for index, each in sorted(self._calls.items())
        ]


def _joined(lines: Iterator[bytes]) -> bytes:
    try:
        return b"".join(line + b"\n" for line in lines)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise NoAnswerError(
            f"its stream is not as OpenAI's API has it ({type(error).__name__}: {error})"
        ) from error


def _thinking(message: dict[str, Any]) -> str:
    return str(message.get("reasoning_content") or message.get("reasoning") or "")


def _vectors(found: dict[str, Any]) -> list[list[float]]:
    return [each["embedding"] for each in sorted(found["data"], key=lambda each: each.get("index", 0))]


class OpenAiStream:
    """A stream in OpenAI's words on its way to a client that speaks them. The counts that only the gateway asked for are
    taken out."""

    def __init__(self, *, with_usage: bool) -> None:
        self.with_usage = with_usage
        self.is_over = False
        self._buffer = bytearray()

    def pieces(self, chunk: bytes) -> Iterator[tuple[bytes, bool]]:
        """Each event, and whether the client gets it."""
        self._buffer += chunk
        for data in events(self._buffer):
            self.is_over = self.is_over or data == b"[DONE]"
            yield b"data: " + data + b"\n\n", self.with_usage or not _only_counts(data)


def _only_counts(data: bytes) -> bool:
    if b'"usage"' not in data:
        return False
    try:
        found = json.loads(data)
    except ValueError:
        return False
    return isinstance(found, dict) and bool(found.get("usage")) and not found.get("choices")
