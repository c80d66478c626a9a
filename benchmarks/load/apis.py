"""The two APIs: what a request looks like, and what a line of its stream says."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json  # three times as fast as json, and here anyway

from benchmarks.load.plan import Plan
from benchmarks.workloads.prompts import Prompt


@dataclass(slots=True)
class Answer:
    """What the lines of one stream said so far; instants in seconds of the caller's clock."""

    first: float | None = None  # text, thinking or tool call
    first_answer: float | None = None  # text or tool call
    last: float | None = None
    done: float | None = None
    done_reason: str | None = None
    error: str | None = None  # told by the engine inside the stream
    n_tokens: int | None = None
    n_prompt: int | None = None
    n_cached: int | None = None
    total_duration_ms: float | None = None
    load_duration_ms: float | None = None
    prompt_duration_ms: float | None = None
    eval_duration_ms: float | None = None

    def has_content(self, at: float, is_answer: bool) -> None:
        if self.first is None:
            self.first = at
        if is_answer and self.first_answer is None:
            self.first_answer = at
        self.last = at


class Api(ABC):
    """How one API is spoken. Built for one plan."""

    path: str

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @abstractmethod
    def body(self, prompt: Prompt, limit: int | None) -> dict[str, Any]:
        """JSON of a streamed request; `limit`: most tokens of the answer."""

    @abstractmethod
    def read_line(self, line: bytes, at: float, answer: Answer) -> bool:
        """Take one line, whose last byte came at `at`; whether it has content.

        Raises ValueError, KeyError, TypeError, IndexError or AttributeError for anything but this API's JSON."""


class Ollama(Api):
    path = "/api/chat"

    def body(self, prompt: Prompt, limit: int | None) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "user", "content": prompt.text}
        if prompt.images:
            message["images"] = list(prompt.images)
        options = dict(self.plan.options)
        if limit is not None:
            options["num_predict"] = limit
        return {
            "model": self.plan.model,
            "messages": [message],
            "stream": True,
            "truncate": False,  # an error, where Ollama would silently send half of the prompt
            "options": options,
        }

    def read_line(self, line: bytes, at: float, answer: Answer) -> bool:
        said = from_json(line)
        if (error := said.get("error")) is not None:
            answer.error = str(error)
            return False
        message = said["message"]
        is_answer = bool(message.get("content") or message.get("tool_calls"))
        has_content = is_answer or bool(message.get("thinking"))
        if has_content:
            answer.has_content(at, is_answer)
        if said["done"]:
            answer.done = at
            answer.done_reason = said.get("done_reason")
            answer.n_tokens = said.get("eval_count")
            answer.n_prompt = said.get("prompt_eval_count")
            answer.n_cached = said.get("prompt_eval_cached_count")  # since Ollama 0.33.3
            answer.total_duration_ms = _from_ns(said.get("total_duration"))
            answer.load_duration_ms = _from_ns(said.get("load_duration"))
            answer.prompt_duration_ms = _from_ns(said.get("prompt_eval_duration"))
            answer.eval_duration_ms = _from_ns(said.get("eval_duration"))
        return has_content


class OpenAI(Api):
    path = "/v1/chat/completions"

    def body(self, prompt: Prompt, limit: int | None) -> dict[str, Any]:
        content: Any = prompt.text
        if prompt.images:
            content = [{"type": "text", "text": prompt.text}]
            content += [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
                for image in prompt.images
            ]
        limits = {} if limit is None else {"max_tokens": limit}
        return {
            "model": self.plan.model,
            "messages": [{"role": "user", "content": content}],
            "stream": True,
            "stream_options": {"include_usage": True},
            **limits,
            **self.plan.options,
        }

    def read_line(self, line: bytes, at: float, answer: Answer) -> bool:
        if not line.startswith(b"data:"):
            if line.startswith((b"{", b"[", b"<")):
                raise ValueError("not an event stream")
            return False  # a comment or another field of the event
        data = line[5:].strip()
        if data == b"[DONE]":
            answer.done = at
            return False
        said = from_json(data)
        if (error := said.get("error")) is not None:
            answer.error = str(error.get("message", error)) if isinstance(error, dict) else str(error)
            return False
        if usage := said.get("usage"):
            answer.n_tokens = usage.get("completion_tokens")
            answer.n_prompt = usage.get("prompt_tokens")
            answer.n_cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        has_content = False
        for choice in said.get("choices") or ():
            delta = choice.get("delta") or {}
            is_answer = bool(delta.get("content") or delta.get("tool_calls") or delta.get("refusal"))
            if is_answer or delta.get("reasoning") or delta.get("reasoning_content"):
                has_content = True
                answer.has_content(at, is_answer)
            answer.done_reason = choice.get("finish_reason") or answer.done_reason
        return has_content


APIS: dict[str, type[Api]] = {"ollama": Ollama, "openai": OpenAI}


def _from_ns(duration: int | None) -> float | None:
    return None if duration is None else duration / 1e6
