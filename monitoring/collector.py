"""The loop that samples: once a second read, publish, store."""

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    close_old_connections,
    connections,
    transaction,
)

from monitoring.alerts.loop import AlertLoop
from monitoring.derived import JoulesPerToken, LeftToCpu, cpu_of_others
from monitoring.headroom import room
from monitoring.models.rule import EVALUATOR_LAG
from monitoring.notable import changes
from monitoring.readers import READERS, Reader, Roots
from monitoring.readers.base import Values, label
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
        self._joules = JoulesPerToken()
        self._left_to_cpu = LeftToCpu()
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
        values |= _join_models(state)
        values |= cpu_of_others(values, state)
        state["room"] = room(state, values)
        state.pop("on_disk", None)
        values |= self._joules.of(at, values, state)
        values |= self._left_to_cpu.of(now, state)
        state["missing"] = sorted(self._failed)
        started = [("collector", "collector started")] if self._state is None else []
        found = started + changes(self._state, state)
        self._state = state
        events = [{"at": at, "kind": kind, "text": text} for kind, text in found]
        return {"type": "sample", "at": at, "host": self.host, "v": values, "state": state, "events": events}

    def wait_for_first(self, timeout_s: float) -> None:
        """Wait until readers with a thread of their own have read once."""
        end = time.monotonic() + timeout_s
        for reader in self.readers:
            reader.wait_for_first(end - time.monotonic())

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
    """Where samples go: Valkey for who watches now, the database for who asks later. Neither holds up the other: the
    database is written by a thread of its own, since it may hang for as long as it likes."""

    def __init__(self, valkey: redis.Redis, writer: Callable[[], SampleWriter]) -> None:
        self.valkey, self._make_writer = valkey, writer
        self._writer: SampleWriter | None = None
        self.waiting: deque[dict[str, Any]] = deque()
        self.n_lost = 0
        self._troubles: set[str] = set()
        self._lock = threading.Lock()
        self._more, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._store_all, name="store", daemon=True)

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

    def keep(self, sample: dict[str, Any]) -> None:
        """Hand it to the storing thread; while the database is away the newest MAX_WAITING samples wait."""
        if len(self.waiting) >= MAX_WAITING:
            self._leave_out(self.waiting[0])
        self.waiting.append(sample)
        self._more.set()

    def store(self) -> None:
        """Store what waits, oldest first; a database that is away or full leaves it waiting."""
        while self.waiting:
            sample = self.waiting[0]
            try:
                self._write(sample)
            except Exception as error:
                self._writer = None  # what it knows of series may have been rolled back
                if isinstance(error, DatabaseError) and not isinstance(error, DataError | IntegrityError):
                    self._trouble("database", f"the database takes no samples: {error}; they wait here")
                    close_old_connections()
                    return
                log.exception("a sample can't be stored and is left out, lest it hold up all others")
                self._leave_out(sample)
            else:
                self._remove(sample)
        self._well("database")

    def _write(self, sample: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = self._make_writer()
        with transaction.atomic():
            self._writer.write(sample["at"], sample["v"])
            for event in sample["events"]:
                record_event(host=sample["host"], **event)

    def _leave_out(self, sample: dict[str, Any]) -> None:
        if self._remove(sample):
            self.n_lost += 1

    def _remove(self, sample: dict[str, Any]) -> bool:
        """Whether it was still the oldest: both threads take from the left."""
        with self._lock:
            if not self.waiting or self.waiting[0] is not sample:
                return False
            self.waiting.popleft()
            return True

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Store what waits and end the thread; a database that hangs is left behind."""
        self._end.set()
        self._more.set()
        self._thread.join(timeout_s)

    def _store_all(self) -> None:
        while not self._end.is_set():
            self._more.wait()
            self._more.clear()
            self.store()
        connections.close_all()

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
    outlet.start()
    alerts.start()
    while not stopped():
        time.sleep(until_next_second(time.time()))
        sample = sampler.sample(time.time(), time.monotonic())
        sample["v"] |= {
            "collector_samples_waiting": len(outlet.waiting),
            "collector_samples_lost_total": outlet.n_lost,
            EVALUATOR_LAG: alerts.lag_s,
        }
        outlet.publish(sample)
        outlet.keep(sample)
        alerts.feed(sample)
    outlet.close()
    alerts.close()


def until_next_second(at: float) -> float:
    """Seconds to the next whole one; never more than 1, so that a clock that leaps costs one tick at most."""
    return max(math.floor(at) + 1 - at, 0.001)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _join_gpus(state: dict[str, Any]) -> dict[str, Any]:
    """One list of GPUs, and where there is none, why; from every reader that has a `gpus:NAME` in its state."""
    found = [state.pop(key) for key in [key for key in state if key.startswith("gpus:")]]
    gpus = [gpu for each in found for gpu in each["gpus"]]
    reasons = [each["reason"] for each in found if each["reason"]]
    return {"gpus": gpus, "gpu_reason": "" if gpus else "; ".join(reasons)}


def _join_models(state: dict[str, Any]) -> Values:
    """GPU memory of each model's process, as the drivers tell it; None where one does not."""
    held: dict[int, list[int | None]] = {}
    for gpu in state["gpus"]:
        for process in gpu.get("processes") or ():
            held.setdefault(process["pid"], []).append(process["memory_bytes"])
    values: Values = {}
    for model in state.get("models") or ():
        found = held.get(model.get("pid"), [])
        known = [each for each in found if each is not None]
        model["process_vram_bytes"] = sum(known) if found and len(known) == len(found) else None
        if state["gpus"]:
            values[f"model_process_vram_bytes{{model={label(model['name'])}}}"] = model["process_vram_bytes"]
    return values
