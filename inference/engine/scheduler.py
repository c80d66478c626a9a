"""Which models are loaded, for how long, and who waits for one."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from inference.engine.errors import EngineError, ModelCrashedError
from inference.engine.options import LOADING
from inference.engine.requests import FOREVER
from inference.engine.store import Model

LOAD_TIMEOUT_S = 300
SMALL_MODEL_BYTES = 64 * 2**20
MAX_THREADS, MAX_LAYERS = 512, 10_000
KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")
log = logging.getLogger("inference.engine")


@dataclass
class Loaded:
    """A file in its process; `model` is the name under which it was first asked for, `settings` what the process was
    started with."""

    model: Model
    settings: dict[str, Any]
    process: asyncio.subprocess.Process
    url: str
    n_running: int = 0
    keep_alive_s: float = 300.0
    expires_at: float = FOREVER  # wall clock, moved when a request ends
    last_used: float = field(default_factory=time.monotonic)
    schemas: set[str] = field(default_factory=set)  # seen to hold the model's answers to their form
    is_leaving: bool = False  # it takes no new request: it makes room, or is loaded anew with other settings

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def num_ctx(self) -> int:
        return int(self.settings["num_ctx"])

    def expiry(self, now: float) -> float:
        """When it will be unloaded (wall clock, FOREVER) if no other request comes."""
        return now + self.keep_alive_s if self.n_running else self.expires_at

    def suits(self, settings: dict[str, Any]) -> bool:
        """Whether a request with `settings` can be answered without loading anew: as Ollama, which lets a loaded model be
        when `num_gpu` is left to it or only `use_mmap` differs."""
        if settings["num_gpu"] not in (None, self.settings["num_gpu"]):
            return False
        free = {"num_gpu", "use_mmap"}
        return all(self.settings[name] == value for name, value in settings.items() if name not in free)

    def memory_bytes(self) -> int:
        """Resident memory of the process; 0 when it is gone."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0


class Scheduler:
    """Loads on demand, one load at a time, unloads by time and by need; idle models make room, busy ones are waited for."""

    def __init__(
        self,
        *,
        max_loaded: int,
        max_queue: int,
        n_parallel: int,
        keep_alive_s: float,
        context_length: int = 4096,
        kv_cache_type: str = "f16",
        flash_attention: bool | None = None,
    ) -> None:
        """`context_length` is for requests that name none; `flash_attention` None leaves it to llama.cpp."""
        self.max_loaded, self.max_queue, self.n_parallel = max_loaded, max_queue, n_parallel
        self.keep_alive_s, self.context_length = keep_alive_s, context_length
        self.kv_cache_type, self.flash_attention = kv_cache_type, flash_attention
        self.loaded: dict[str, Loaded] = {}  # by blob: names of one file share its process, as Ollama has it
        self.n_pending = 0
        self._loading = asyncio.Lock()
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def use(
        self, model: Model, options: dict[str, Any], keep_alive_s: float | None, *, shift: bool = True
    ) -> AsyncIterator[Loaded]:
        """The loaded model for the time of one request. Raises EngineError 503 when too many wait for a load."""
        loaded = await self._get(model, self._settings(model, options, shift=shift))
        if keep_alive_s is not None:  # a request that names none leaves it, as with Ollama
            loaded.keep_alive_s = keep_alive_s
        try:
            yield loaded
        finally:
            loaded.n_running -= 1
            await self._release(loaded)

    async def unload(self, model: Model) -> None:
        """Unload when its last request ends; at once when it is idle."""
        loaded = self.loaded.get(model.blob)
        if loaded is not None:
            loaded.keep_alive_s = 0.0
            if loaded.n_running == 0:
                await self._stop(loaded)

    def rename(self, model: Model, other: Model) -> None:
        """`model` is deleted; what is loaded of their file goes by the name of `other` from here on."""
        loaded = self.loaded.get(model.blob)
        if loaded is not None and loaded.model.name == model.name:
            loaded.model = other

    async def expire(self, now: float) -> None:
        """Unload what has been idle for its time; `now` is wall clock seconds."""
        for loaded in list(self.loaded.values()):
            if not loaded.alive and loaded.n_running == 0:
                log.warning(
                    "the process of %s ended with status %s", loaded.model.name, loaded.process.returncode
                )
                await self._stop(loaded)
            elif loaded.n_running == 0 and now >= loaded.expires_at:
                await self._stop(loaded)

    async def close(self) -> None:
        for loaded in list(self.loaded.values()):
            await self._stop(loaded)

    def _settings(self, model: Model, options: dict[str, Any], *, shift: bool) -> dict[str, Any]:
        metadata = model.metadata
        trained = int(metadata.of_architecture("context_length") or 4096)
        asked = {name: options[name] for name in LOADING if name in options}
        num_ctx = max(min(asked.get("num_ctx") or self.context_length, trained), 4)
        # Two threads make the generation of a tiny model ten times slower: they only wait for each other.
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        num_thread = max(min(asked.get("num_thread", 0), MAX_THREADS), 0)
        num_gpu = asked.get("num_gpu", -1)
        return {
            "model": str(model.path),
            "num_ctx": num_ctx,
            "n_parallel": self.n_parallel,
            "num_thread": num_thread,
            "threads": num_thread or (1 if model.size < SMALL_MODEL_BYTES else cores),
            # llama.cpp warms up with two tokens and aborts when they don't fit into one batch; it embeds a text only in one.
            "num_batch": num_ctx
            if metadata.is_embedding
            else max(min(asked.get("num_batch") or 512, num_ctx), 2),
            "num_gpu": None if num_gpu < 0 else min(num_gpu, MAX_LAYERS),
            "main_gpu": asked.get("main_gpu"),
            "use_mmap": asked.get("use_mmap", True),
            "kv_cache_type": self.kv_cache_type,
            "flash_attention": self.flash_attention,
            "embedding": metadata.is_embedding,
            "shift": shift,
        }

    async def _get(self, model: Model, settings: dict[str, Any]) -> Loaded:
        loaded = self._ready(model, settings)
        if loaded is None:
            if self.n_pending > self.max_queue:  # one of them is being loaded, the others wait
                raise EngineError(503, "server busy, please try again.  maximum pending requests exceeded")
            self.n_pending += 1
            try:
                async with self._loading:
                    loaded = self._ready(model, settings) or await self._load(model, settings)
            finally:
                self.n_pending -= 1
        loaded.n_running += 1
        return loaded

    def _ready(self, model: Model, settings: dict[str, Any]) -> Loaded | None:
        loaded = self.loaded.get(model.blob)
        return (
            loaded if loaded and loaded.alive and not loaded.is_leaving and loaded.suits(settings) else None
        )

    async def _load(self, model: Model, settings: dict[str, Any]) -> Loaded:
        if unfit := self.loaded.get(model.blob):
            await self._retire(unfit)
        while len(self.loaded) >= self.max_loaded:
            await self._retire(
                min(self.loaded.values(), key=lambda each: (each.n_running > 0, each.last_used))
            )
        loaded = self.loaded[model.blob] = await self._start(model, settings)
        return loaded

    async def _retire(self, loaded: Loaded) -> None:
        """Wait for its requests and unload it; it takes no more, or the wait might never end."""
        loaded.is_leaving = True
        try:
            async with self._freed:
                await self._freed.wait_for(lambda: loaded.n_running == 0)
            await self._stop(loaded)
        finally:
            loaded.is_leaving = False

    async def _start(self, model: Model, settings: dict[str, Any]) -> Loaded:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference.engine.runner", json.dumps(settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                line = await process.stdout.readline()
        except (TimeoutError, asyncio.CancelledError) as error:
            process.kill()
            await process.wait()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise EngineError(500, f"timed out waiting for the model to load ({LOAD_TIMEOUT_S} s)") from error
        answer = json.loads(line) if line else {"error": "the model's process ended while loading"}
        if "error" in answer:
            await process.wait()
            raise EngineError(500, f"unable to load model: {answer['error']}")
        log.info("%s loaded (pid %s, num_ctx %s)", model.name, process.pid, settings["num_ctx"])
        return Loaded(model, settings, process, answer["url"], keep_alive_s=self.keep_alive_s)

    async def _release(self, loaded: Loaded) -> None:
        loaded.last_used = time.monotonic()
        loaded.expires_at = time.time() + loaded.keep_alive_s
        if loaded.n_running == 0 and (loaded.keep_alive_s <= 0 or not loaded.alive):
            await self._stop(loaded)
        async with self._freed:
            self._freed.notify_all()

    async def _stop(self, loaded: Loaded) -> None:
        if self.loaded.get(loaded.model.blob) is loaded:
            del self.loaded[loaded.model.blob]
        if loaded.alive:
            with suppress(ProcessLookupError):
                loaded.process.kill()  # it holds nothing but memory
        await loaded.process.wait()
        log.info("%s unloaded", loaded.model.name)


async def crashed(loaded: Loaded) -> ModelCrashedError:
    """The error for a connection that broke; waits a moment for the process, so that the next request reloads."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await loaded.process.wait()
    return ModelCrashedError()
