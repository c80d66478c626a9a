"""One generation: from a request to the pieces of its answer, whatever the API that asked.

A call (`Prompt` or `Chat`) goes in, `Piece`s and one last `Finish` come out; without a `Finish` the model broke off."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from inference.engine.errors import EngineError
from inference.engine.messages import openai_message
from inference.engine.options import check_options, llama_request
from inference.engine.scheduler import Loaded, Scheduler, crashed
from inference.engine.store import Model

REPEAT_LIMIT = 30  # identical pieces in a row after which Ollama gives up


@dataclass
class Piece:
    """Part of an answer; `tokens` are ids, where the way of asking gives them."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


@dataclass
class Finish:
    """The end of an answer with llama.cpp's own counts and times (ms)."""

    reason: str
    prompt_tokens: int
    prompt_ms: float
    output_tokens: int
    output_ms: float


@dataclass
class Call:
    """What every generation has. `started` is time.monotonic() at the request's arrival; `load_s` is filled in."""

    model: Model
    options: dict[str, Any]
    keep_alive_s: float | None  # None: as it was
    schema: dict[str, Any] | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    think: bool | str | None = None
    started: float = field(default_factory=time.monotonic)
    load_s: float = 0.0
    prompt_ids: list[int] = field(default_factory=list)

    def effective_options(self) -> dict[str, Any]:
        """The model's own parameters under the request's."""
        return {**check_options(self.model.parameters), **self.options}


@dataclass
class Prompt(Call):
    """A prompt to go on with; `raw` leaves out the chat template."""

    prompt: str = ""
    system: str | None = None
    raw: bool = False
    context: list[int] = field(default_factory=list)


@dataclass
class Chat(Call):
    """Messages in OpenAI's form (tool arguments are strings, images are parts)."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)


Event = Piece | Finish


class Engine:
    """The scheduler with an HTTP client to the models' processes."""

    def __init__(self, scheduler: Scheduler, session: aiohttp.ClientSession) -> None:
        self.scheduler, self.session = scheduler, session

    async def load(self, call: Call) -> None:
        async with self.scheduler.use(
            call.model, call.effective_options(), call.keep_alive_s, shift=call.shift
        ):
            pass

    async def generate(self, call: Call) -> AsyncIterator[Event]:
        options = call.effective_options()
        async with self.scheduler.use(call.model, options, call.keep_alive_s, shift=call.shift) as loaded:
            call.load_s = time.monotonic() - call.started
            body = self._common(call, llama_request(options, loaded.num_ctx))
            if isinstance(call, Chat):
                events = await self._chat(call, loaded, body)
            else:
                assert isinstance(call, Prompt)
                events = await self._prompt(call, loaded, body)
            async for event in until_repeating(events):
                yield event

    async def render(self, call: Prompt) -> str:
        """The prompt as the model would get it."""
        async with self.scheduler.use(
            call.model, call.effective_options(), call.keep_alive_s, shift=call.shift
        ) as loaded:
            return call.prompt if call.raw else await self._rendered(loaded, prompt_messages(call))

    async def embed(
        self, call: Call, texts: list[str], dimensions: int | None
    ) -> tuple[list[list[float]], int]:
        """(vectors of unit length, tokens in all). Raises EngineError 400 when `truncate` is off and a text is too long."""
        async with self.scheduler.use(
            call.model, call.effective_options(), call.keep_alive_s, shift=call.shift
        ) as loaded:
            call.load_s = time.monotonic() - call.started
            inputs: list[Any] = []
            for text in texts:
                ids = (await self._post(loaded, "/tokenize", {"content": text, "add_special": True}))[
                    "tokens"
                ]
                if len(ids) > loaded.num_ctx and not call.truncate:
                    raise EngineError(400, "the input length exceeds the context length")
                inputs.append(ids[: loaded.num_ctx] if len(ids) > loaded.num_ctx else text)
            answer = await self._post(loaded, "/v1/embeddings", {"input": inputs})
        vectors = [each["embedding"] for each in sorted(answer["data"], key=lambda each: each["index"])]
        if dimensions and dimensions > 0:
            vectors = [unit(each[:dimensions]) for each in vectors]
        return vectors, int(answer["usage"]["prompt_tokens"])

    def _common(self, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        body |= {"stream": True, "cache_prompt": True, "return_tokens": True}
        if call.schema is not None:
            body["json_schema"] = call.schema
        return body

    async def _prompt(self, call: Prompt, loaded: Loaded, body: dict[str, Any]) -> AsyncIterator[Event]:
        if not call.raw and "thinking" in call.model.metadata.capabilities:
            # Only llama.cpp's chat endpoint tells thinking from answer.
            common = {name: getattr(call, name) for name in Call.__dataclass_fields__}
            return await self._chat(Chat(**common, messages=prompt_messages(call)), loaded, body)
        text = call.prompt if call.raw else await self._rendered(loaded, prompt_messages(call))
        ids = [*call.context, *await self._tokenize(loaded, text, add_special=not call.context)]
        call.prompt_ids = shortened(ids, loaded.num_ctx, body["n_keep"]) if call.truncate else ids
        return self._complete(call, loaded, body)

    async def _chat(self, call: Chat, loaded: Loaded, body: dict[str, Any]) -> AsyncIterator[Event]:
        messages = [*stored_messages(call.model), *call.messages]
        system = call.model.settings.get("system")
        if system and not any(each["role"] == "system" for each in messages):
            messages = [{"role": "system", "content": system}, *messages]
        shared: dict[str, Any] = {"tools": call.tools} if call.tools else {}
        if "thinking" in call.model.metadata.capabilities:
            shared["chat_template_kwargs"] = {"enable_thinking": call.think is not False}
            shared["reasoning_format"] = "deepseek"
        if call.truncate:
            while True:
                ids = await self._tokenize(loaded, await self._rendered(loaded, messages, **shared))
                droppable = [each for each in messages[:-1] if each["role"] != "system"]
                if len(ids) < loaded.num_ctx or not droppable:
                    break
                messages = [each for each in messages if each is not droppable[0]]
            if len(ids) >= loaded.num_ctx:  # the last message alone is too long
                call.prompt_ids = shortened(ids, loaded.num_ctx, body["n_keep"])
                return self._complete(call, loaded, body)
        body |= {"messages": messages, "max_tokens": body.pop("n_predict"), **shared}
        if call.logprobs:
            body |= {"logprobs": True, "top_logprobs": max(call.top_logprobs, 1)}
        return self._chat_events(call, loaded, body)

    async def _complete(self, call: Call, loaded: Loaded, body: dict[str, Any]) -> AsyncIterator[Event]:
        if call.schema is not None:
            await self._check_schema(loaded, call.schema)
        if call.logprobs:
            body["n_probs"] = max(call.top_logprobs, 1)
        async for event in self._stream(loaded, "/completion", {**body, "prompt": call.prompt_ids}):
            if event.get("content") or event.get("tokens"):
                yield Piece(
                    event.get("content", ""),
                    tokens=event.get("tokens", []),
                    logprobs=logprobs(event.get("completion_probabilities"), call.top_logprobs),
                )
            if event.get("stop"):
                yield finish("length" if event.get("stop_type") == "limit" else "stop", event["timings"])

    async def _check_schema(self, loaded: Loaded, schema: dict[str, Any]) -> None:
        """Raises EngineError 400 for a schema that llama.cpp can't hold an answer to.

        Its completion endpoint answers without any limit then, and says nothing. Its chat endpoint tells most faults; the
        rest shows in whether a token with which no JSON begins gets through."""
        key = json.dumps(schema, sort_keys=True)
        if key in loaded.schemas:
            return
        shared = {"json_schema": schema, "n_predict": 1}
        await self._rendered(loaded, [{"role": "user", "content": "x"}], **shared)
        tried = await self._post(
            loaded, "/completion", {**shared, "prompt": "x", "logit_bias": [["A", 1000.0]]}
        )
        if tried["content"].strip().startswith("A"):
            raise EngineError(400, f"invalid format: llama.cpp can't hold an answer to {key}")
        loaded.schemas.add(key)

    async def _chat_events(self, call: Call, loaded: Loaded, body: dict[str, Any]) -> AsyncIterator[Event]:
        reason, tool_calls = "stop", ToolCalls()
        async for event in self._stream(loaded, "/v1/chat/completions", body):
            for choice in event.get("choices", []):
                delta = choice.get("delta", {})
                tool_calls.add(delta.get("tool_calls") or [])
                probs = logprobs((choice.get("logprobs") or {}).get("content"), call.top_logprobs)
                if delta.get("content") or delta.get("reasoning_content") or probs:
                    yield Piece(
                        delta.get("content") or "", delta.get("reasoning_content") or "", logprobs=probs
                    )
                reason = "length" if choice.get("finish_reason") == "length" else reason
            if "timings" in event:
                if calls := tool_calls.whole():
                    yield Piece(tool_calls=calls)
                yield finish(reason, event["timings"])

    async def _rendered(self, loaded: Loaded, messages: list[dict[str, Any]], **shared: Any) -> str:
        """The messages in the model's own chat template, without the BOS that tokenizing adds."""
        return str((await self._post(loaded, "/apply-template", {"messages": messages, **shared}))["prompt"])

    async def _tokenize(self, loaded: Loaded, text: str, *, add_special: bool = True) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return list((await self._post(loaded, "/tokenize", body))["tokens"])

    async def _post(self, loaded: Loaded, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            async with self.session.post(loaded.url + path, json=body) as answer:
                text = await answer.text()
        except aiohttp.ClientError as error:
            raise await crashed(loaded) from error
        if answer.status != 200:
            raise EngineError(answer.status, runner_message(path, text))
        return dict(json.loads(text))

    async def _stream(self, loaded: Loaded, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Events of a streamed answer; leaving it early closes the connection, which stops the generation."""
        try:
            async with self.session.post(loaded.url + path, json=body) as answer:
                if answer.status != 200:
                    raise EngineError(answer.status, runner_message(path, await answer.text()))
                finished = False
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        event = json.loads(line[6:])
                        if "error" in event:
                            return  # as Ollama: the stream ends without `done`
                        finished = finished or "timings" in event
                        yield event
                    elif line.startswith(b"error: "):
                        return
                if not finished and not answer.connection and not await self._answers(loaded):
                    raise await crashed(loaded)
        except aiohttp.ClientError as error:
            raise await crashed(loaded) from error

    async def _answers(self, loaded: Loaded) -> bool:
        try:
            async with self.session.get(loaded.url + "/health") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


def stored_messages(model: Model) -> list[dict[str, Any]]:
    """The conversation that `create` put before each one."""
    return [openai_message(each) for each in model.settings.get("messages", [])]


def prompt_messages(call: Prompt) -> list[dict[str, Any]]:
    system = call.system if call.system is not None else call.model.settings.get("system")
    messages = [{"role": "system", "content": system}] if system else []
    if not call.context:
        messages += stored_messages(call.model)
    return [*messages, {"role": "user", "content": call.prompt}]


class ToolCalls:
    """Collects the fragments of tool calls; Ollama hands them out whole."""

    def __init__(self) -> None:
        self.calls: dict[int, dict[str, str]] = {}

    def add(self, fragments: list[dict[str, Any]]) -> None:
        for fragment in fragments:
            call = self.calls.setdefault(fragment.get("index", 0), {"name": "", "arguments": ""})
            function = fragment.get("function") or {}
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""

    def whole(self) -> list[dict[str, Any]]:
        """[{"name", "arguments": object}]"""
        found = []
        for call in self.calls.values():
            try:
                arguments = json.loads(call["arguments"] or "{}")
            except ValueError:
                arguments = {"_raw": call["arguments"]}
            found.append({"name": call["name"], "arguments": arguments})
        return found


async def until_repeating(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events, broken off (without Finish) after REPEAT_LIMIT identical pieces; all white space counts as the same."""
    last, n_same = "", 0
    async for event in events:
        if isinstance(event, Piece) and (text := event.text or event.thinking):
            n_same = n_same + 1 if text.strip() == last else 0
            last = text.strip()
        yield event
        if n_same > REPEAT_LIMIT:
            return


def shortened(ids: list[int], num_ctx: int, n_keep: int) -> list[int]:
    """A prompt that leaves no room to answer, cut as llama.cpp does: its beginning and half of the rest, from the end."""
    if len(ids) < num_ctx:
        return ids
    keep = max(min(n_keep, num_ctx - 4), 0)
    return ids[:keep] + ids[len(ids) - max((num_ctx - keep) // 2, 1) :]


def finish(reason: str, timings: dict[str, Any]) -> Finish:
    return Finish(
        reason,
        int(timings["prompt_n"]) + int(timings.get("cache_n", 0)),
        float(timings["prompt_ms"]),
        int(timings["predicted_n"]),
        float(timings["predicted_ms"]),
    )


def logprobs(entries: list[dict[str, Any]] | None, n_top: int) -> list[dict[str, Any]]:
    """llama.cpp's entries in Ollama's form."""

    def plain(entry: dict[str, Any]) -> dict[str, Any]:
        return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry["bytes"]}

    result = []
    for entry in entries or []:
        one = plain(entry)
        if n_top:
            one["top_logprobs"] = [plain(each) for each in entry.get("top_logprobs", [])[:n_top]]
        result.append(one)
    return result


def runner_message(path: str, text: str) -> str:
    """An error of the model's process as Ollama hands it on: its JSON as a string."""
    if "does not support embeddings" in text:
        return str(json.loads(text)["error"]["message"])
    return text


def unit(vector: list[float]) -> list[float]:
    length = sum(each * each for each in vector) ** 0.5
    return [each / length for each in vector] if length else vector
