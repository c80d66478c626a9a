"""The loop that samples: once a second read, publish, store."""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from django.db import DatabaseError, close_old_connections

from monitoring.alerts.loop import AlertLoop
from monitoring.notable import changes
from monitoring.readers import READERS, Reader, Roots
from monitoring.services import SampleWriter, record_event

CHANNEL, LAST_KEY = "aicleaner:live", "aicleaner:live:last"
MAX_WAITING = 900  # samples held while the database is away
log = logging.getLogger("monitoring.collector")


class Sampler:
    """All readers at their own pace, merged into one sample."""

    def __init__(self, host: str, roots: Roots, names: list[str] | None = None) -> None:
        self.host = host
        self.readers = [each(roots) for each in READERS if names is None or each.name in names]
        self._kept: dict[str, tuple[dict[str, float | None], dict[str, Any]]] = {}
        self._due = {reader.name: 0.0 for reader in self.readers}
        self._failed: set[str] = set()
        self._state: dict[str, Any] | None = None

    def sample(self, at: float, now: float) -> dict[str, Any]:
        """One sample; `at` wall clock, `now` monotonic. A reader that fails is missing from it, by name."""
        values: dict[str, float | None] = {}
        state: dict[str, Any] = {}
        for reader in self.readers:
            if now >= self._due[reader.name]:
                self._due[reader.name] = now + reader.every_s - 0.5
                self._read(reader, now)
            kept = self._kept.get(reader.name)
            if kept is not None:
                values |= kept[0]
                state |= kept[1]
        values = {name: _finite(value) for name, value in values.items()}
        state |= _join_gpus(state)
        state["missing"] = sorted(self._failed)
        found = changes(self._state, state)
        self._state = state
        events = [{"at": at, "kind": kind, "text": text} for kind, text in found]
        return {"type": "sample", "at": at, "host": self.host, "v": values, "state": state, "events": events}

    def close(self) -> None:
        for reader in self.readers:
            reader.close()

    def _read(self, reader: Reader, now: float) -> None:
        try:
            reading = reader.read(now)
        except Exception:
            if reader.name not in self._failed:
                log.exception("reader %s failed; its values are unknown until it works again", reader.name)
            self._failed.add(reader.name)
            self._kept.pop(reader.name, None)
            return
        self._failed.discard(reader.name)
        self._kept[reader.name] = (reading.values, reading.state)


class Outlet:
    """Where samples go: Valkey for who watches now, the database for who asks later. Neither holds up the other."""

    def __init__(self, valkey: redis.Redis, writer: Callable[[], SampleWriter]) -> None:
        self.valkey, self._make_writer = valkey, writer
        self._writer: SampleWriter | None = None
        self.waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._troubles: set[str] = set()

    def publish(self, sample: dict[str, Any]) -> None:
        text = json.dumps(sample, separators=(",", ":"), allow_nan=False)
        try:
            pipeline = self.valkey.pipeline(transaction=False)
            pipeline.publish(CHANNEL, text)
            pipeline.set(LAST_KEY, text, ex=10)
            pipeline.execute()
            self._well("valkey")
        except redis.RedisError as error:
            self._trouble("valkey", f"Valkey takes no samples: {error}; they are stored all the same")

    def store(self, sample: dict[str, Any]) -> None:
        """Store it and what waited; while the database is away the newest MAX_WAITING samples wait."""
        self.waiting.append(sample)
        try:
            if self._writer is None:
                self._writer = self._make_writer()
            while self.waiting:
                first = self.waiting[0]
                self._writer.write(first["at"], first["v"])
                for event in first["events"]:
                    record_event(host=first["host"], **event)
                self.waiting.popleft()
            self._well("database")
        except DatabaseError as error:
            self._trouble("database", f"the database takes no samples: {error}; they wait here")
            close_old_connections()

    def _trouble(self, what: str, text: str) -> None:
        if what not in self._troubles:
            log.warning("%s", text)
        self._troubles.add(what)

    def _well(self, what: str) -> None:
        if what in self._troubles:
            log.info("%s takes samples again", what)
        self._troubles.discard(what)


def run(sampler: Sampler, outlet: Outlet, alerts: AlertLoop, stopped: Callable[[], bool]) -> None:
    """Sample at every whole second until `stopped`; a late tick skips, it never bunches."""
    alerts.start()
    while not stopped():
        time.sleep(max(math.floor(time.time()) + 1 - time.time(), 0.001))
        sample = sampler.sample(time.time(), time.monotonic())
        outlet.publish(sample)
        outlet.store(sample)
        alerts.feed(sample)
    alerts.close()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _join_gpus(state: dict[str, Any]) -> dict[str, Any]:
    """One list of GPUs, and where there is none, why."""
    nvidia, amd = state.pop("nvidia", None) or {}, state.pop("amd", None) or {}
    gpus = [*nvidia.get("gpus", []), *amd.get("gpus", [])]
    reasons = [each["reason"] for each in (nvidia, amd) if each.get("reason")]
    return {"gpus": gpus, "gpu_reason": "" if gpus else "; ".join(reasons)}
