"""The profile in use: what it adds to a request, what it holds it to, and how many requests run at a time.

Profiles come ready for use from the console (tuning/services.py). docs/profiles.md says what each field does to which API."""

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from inference.gateway.pushed import PROFILES, Pushed
from inference.names import full_name

log = logging.getLogger("inference.gateway")

# What concerns the loading of a model; the rest concerns one answer.
LOADING = frozenset({"num_ctx", "num_batch", "num_thread", "num_gpu"})
# Path -> what the API calls Ollama's options. An API without a name for an option doesn't take it there.
_OPENAI = {
    "temperature": "temperature",
    "top_p": "top_p",
    "num_predict": "max_tokens",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
SAMPLING = {
    "/v1/chat/completions": _OPENAI,
    "/v1/completions": _OPENAI,
    "/v1/responses": {"temperature": "temperature", "top_p": "top_p", "num_predict": "max_output_tokens"},
    "/v1/messages": {"temperature": "temperature", "top_p": "top_p", "num_predict": "max_tokens"},
    "/v1/embeddings": {},
}
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make one each time
EMBEDDING = frozenset({"/api/embed", "/api/embeddings"})


class UnknownProfileError(Exception):
    pass


class TooManyWaitingError(Exception):
    """In Ollama's words, since clients know them."""

    def __str__(self) -> str:
        return "server busy, please try again.  maximum pending requests exceeded"


@dataclass(frozen=True, slots=True)
class Profile:
    """`options` in Ollama's names; None: no limit, or left to the gateway's own settings. `models`: (pattern, options) of
    single models, which count before `options`; the later of two that fit counts before the earlier."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    max_threads: int | None = None
    gpu: bool = True
    parallel: int | None = None
    cache: bool | None = None  # None: only what can be repeated
    cache_ttl_s: float | None = None
    memory_bytes: int | None = None
    vram_bytes: int | None = None
    models: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def options_of(self, *names: str) -> dict[str, Any]:
        """What is said for a model that goes by any of `names`. A pattern without a tag fits `:latest` too."""
        found: dict[str, Any] = {}
        if self.models:
            full = {full_name(name) for name in names if name}
            spelled = full | {name.removesuffix(":latest") for name in full}
            for pattern, options in self.models:
                if any(fnmatchcase(name, pattern) for name in spelled):
                    found |= options
        return found


NONE = Profile("none")


class Profiles(Pushed):
    """The active profile and all by name. `on_change` is called after each change."""

    def __init__(self, valkey_url: str, on_change: Callable[[], None]) -> None:
        super().__init__(valkey_url, PROFILES)
        self.none = NONE  # what holds without a profile: the limits of config.yaml
        self.active = NONE
        self.by_name: dict[str, Profile] = {}
        self._on_change = on_change

    def choose(self, name: str) -> Profile:
        """That of a name, the active one without. Raises UnknownProfileError."""
        if not name:
            return self.active
        if name == NONE.name:
            return self.none
        if name == self.active.name:
            return self.active
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name)) or "none is known"
            raise UnknownProfileError(
                f"x-aicleaner-profile: profile {name[:100]!r} not found; known: {known}"
            ) from None

    def longest_ttl_s(self, own_s: float) -> float:
        """For which an answer may still be given; `own_s` where a profile leaves it open."""
        times = (each.cache_ttl_s for each in (self.active, *self.by_name.values()))
        return max(own_s, *(own_s if each is None else each for each in times))

    def take(self, state: dict[str, Any]) -> None:
        """Put `{"active": {...} or None, "profiles": [{...}], "none": {...}}` to use, whole or not at all (TypeError,
        KeyError)."""
        none = Profile(**state["none"]) if state.get("none") else NONE
        active = none if state["active"] is None else Profile(**state["active"])
        by_name = {each["name"]: Profile(**each) for each in state["profiles"]}
        changed = active != self.active
        self.active, self.by_name, self.none = active, by_name, none
        if changed:
            log.info("profile in use: %s", active.name)
        self._on_change()


def fill(
    profile: Profile,
    path: str,
    values: dict[str, Any],
    *,
    names: tuple[str, ...] = (),
    one_thread: bool = False,
) -> dict[str, Any]:
    """Fields to set in the request `values`: the profile's options where the request leaves them open, and its limits.

    Empty: nothing to do. `names`: those that the model goes by, the one that was asked for and the one that answers.
    `one_thread`: the engine runs this model on a single thread, which only an option for this very model raises.
    A request whose options are not as they should be is left to the engine to refuse."""
    api, own = SAMPLING.get(path), values.get("options")
    if own is None or (api is not None and not isinstance(own, dict)):
        own = {}
    if not isinstance(own, dict):
        return {}
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    special = profile.options_of(*names)
    for name, value in {**profile.options, **special}.items():
        if name not in LOADING and (api is not None or path in EMBEDDING):
            target = (api or {}).get(name)
            if target is not None and values.get(target) is None:
                fields[target] = value
        elif own.get(name) is None and not (one_thread and name == "num_thread" and name not in special):
            options[name] = value
    if "max_tokens" in fields and isinstance(values.get("max_completion_tokens"), int):
        fields["max_tokens"] = values["max_completion_tokens"]  # Ollama doesn't know the newer name
    threads = options.get("num_thread", own.get("num_thread"))
    if profile.max_threads is not None and isinstance(threads, int | float) and threads > profile.max_threads:
        options["num_thread"] = profile.max_threads
    if not profile.gpu and own.get("num_gpu") != 0:
        options["num_gpu"] = 0
    if options:
        fields["options"] = {**own, **options}
    return fields


def splice(body: bytes, values: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """`body`, the JSON of `values`, with `fields` set: put at its end, where the later of two equal names counts (for
    Go's decoder as for Python's), so that a picture in it isn't written anew."""
    text = body.rstrip(b" \t\r\n")
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return json.dumps({**values, **fields}).encode()
    added = _encode(fields).encode()[1:]
    return b"".join((text[:-1], b"," if values else b"", added))


def loading_options(fields: dict[str, Any]) -> list[str]:
    return sorted(LOADING & fields.get("options", {}).keys())


class Gate:
    """Lets so many requests of a model run at a time as the limit says; the others wait in the order they came."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting, self.n_waiting = max_waiting, 0
        self.running: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[asyncio.Future[None], Callable[[], int | None]]]] = {}

    @asynccontextmanager
    async def turn(self, model: str, limit: Callable[[], int | None]) -> AsyncIterator[bool]:
        """Gives whether it had to wait. `limit` is asked anew whenever something changes. Raises TooManyWaitingError."""
        waited = await self._enter(model, limit)
        try:
            yield waited
        finally:
            self._leave(model)

    def recheck(self) -> None:
        """Another profile may let more of them run."""
        for model in list(self._waiting):
            self._admit(model)

    async def _enter(self, model: str, limit: Callable[[], int | None]) -> bool:
        allowed = limit()
        if allowed is None or (self.running[model] < allowed and model not in self._waiting):
            self.running[model] += 1
            return False
        if self.n_waiting >= self.max_waiting:
            raise TooManyWaitingError
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(model, deque()).append((future, limit))
        self.n_waiting += 1
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._admit(model)
            else:  # let in and gone in the same moment
                self._leave(model)
            raise
        return True

    def _leave(self, model: str) -> None:
        self.running[model] -= 1
        if not self.running[model]:
            del self.running[model]
        if self._waiting:
            self._admit(model)

    def _admit(self, model: str) -> None:
        """Let in from the front who may run; who has gone is passed over, wherever in the queue."""
        queue = self._waiting.get(model)
        if queue is None:
            return
        n_before = len(queue)
        kept = deque(each for each in queue if not each[0].cancelled())
        while kept:
            future, limit = kept[0]
            allowed = limit()
            if allowed is not None and self.running[model] >= allowed:
                break
            kept.popleft()
            self.running[model] += 1
            future.set_result(None)
        self.n_waiting += len(kept) - n_before
        if kept:
            self._waiting[model] = kept
        else:
            del self._waiting[model]
