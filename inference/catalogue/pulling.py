"""Doing a pull: a thread reads what the engine says, this side stores it, until the end or until something stops it."""

import asyncio
import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from inference.catalogue import pulls
from inference.catalogue.engine import said
from inference.engines.selectors import EngineAddress
from inference.models import JobState, ModelPull

LOOK_S, LEASE_EVERY_S, NEWS_EVERY_S = 0.2, 1.0, 0.5
SILENT_S = 900.0  # checking a big file's digest takes the engine minutes, without a word
MAX_LINE = 2**20
log = logging.getLogger(__name__)


class Download:
    """`/api/pull`, read in a thread of its own. `lines` holds what the engine said and in the end a str: "" or what
    went wrong."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.lines: queue.Queue[dict[str, Any] | str] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="pull", daemon=True)

    def __enter__(self) -> "Download":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The connection is closed, by which the engine stops; what it has fetched waits for the next pull."""
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self._thread.join(10)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._read())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self.lines.put("cancelled")
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _read(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, read_bufsize=MAX_LINE) as session,
                session.post(f"{self.url}/api/pull", json={"model": self.name, "stream": True}) as answer,
            ):
                if answer.status != 200:
                    self.lines.put(said(await answer.text()))
                    return
                async for line in answer.content:
                    if line.strip():
                        found = json.loads(line)
                        self.lines.put(found if isinstance(found, dict) else {})
            self.lines.put("")
        except TimeoutError:
            self.lines.put(f"the engine said nothing for {SILENT_S:g} s")
        except (aiohttp.ClientError, OSError) as error:
            self.lines.put(f"the engine went away: {str(error) or type(error).__name__}")
        except ValueError:
            self.lines.put("the engine's answer makes no sense")


def execute(pull: ModelPull, engine: EngineAddress, *, stopping: Callable[[], str]) -> None:
    """Do `pull`, which is running, and end it whatever happens. `stopping`: why this process has to stop, "" else."""
    try:
        state, reason = _Pulling(pull, stopping).run(engine)
    except DatabaseError as error:
        log.exception("pull %s can't be stored", pull.pk)
        close_old_connections()
        state, reason = JobState.FAILED, f"its progress can't be stored: {error}. Is the disk full?"
    except Exception:  # it must not stay 'running' for whatever reason
        log.exception("pull %s failed", pull.pk)
        state, reason = JobState.FAILED, "a mistake of ours; the worker's log tells more"
    pulls.end_pull(pull, state, reason, now=timezone.now())


class _Pulling:
    def __init__(self, pull: ModelPull, stopping: Callable[[], str]) -> None:
        self.pull, self.stopping = pull, stopping
        self.step, self.layers = "", dict[str, tuple[int, int]]()
        self._leased = self._told = 0.0

    def run(self, engine: EngineAddress) -> tuple[JobState, str]:
        succeeded = False
        with Download(engine.url, self.pull.model) as download:
            while True:
                stopped = self._stopped()
                if stopped is not None:
                    return stopped
                try:
                    line = download.lines.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                if isinstance(line, str):
                    if succeeded:
                        return JobState.DONE, ""
                    return JobState.FAILED, line or "the engine ended it without saying that it is done"
                if "error" in line:
                    return JobState.FAILED, str(line["error"])
                succeeded = line.get("status") == "success"
                self._hear(line)

    def _hear(self, line: dict[str, Any]) -> None:
        self.step = str(line.get("status") or self.step)
        digest, total = line.get("digest"), line.get("total")
        if isinstance(digest, str) and isinstance(total, int):
            self.layers[digest] = int(line.get("completed") or 0), total

    @property
    def done(self) -> int:
        return sum(done for done, _ in self.layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self.layers.values())

    def _stopped(self) -> tuple[JobState, str] | None:
        """Whether a person, this process or a lost lease ends it; stores and tells the progress on the way."""
        if reason := self.stopping():
            return JobState.INTERRUPTED, reason
        now = time.monotonic()
        if now - self._told >= NEWS_EVERY_S and self.step:
            self._told = now
            pulls.tell_progress(self.pull, step=self.step, done=self.done, total=self.total)
        rows = ModelPull.objects.filter(pk=self.pull.pk)
        row = rows.values_list("state", "cancel_asked_at", "reason").first()
        if row is None or row[0] != JobState.RUNNING:
            return JobState.INTERRUPTED, "the lease ran out"
        if row[1] is not None:
            return JobState.CANCELLED, row[2]
        if now - self._leased >= LEASE_EVERY_S:
            self._leased = now
            pulls.keep_lease(self.pull, step=self.step, done=self.done, total=self.total, now=timezone.now())
        return None
