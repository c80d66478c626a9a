"""Measuring a run: one load process per round and model, in the order AB BA, until the end or until something stops it."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from benchmarks import services
from benchmarks.engines import Engine, check_models, engine_models, engine_of
from benchmarks.errors import BenchmarkError, EngineError
from benchmarks.fingerprint import take_fingerprint
from benchmarks.load.result import Result, Status
from benchmarks.models import Run, State
from benchmarks.parameters import Parameters
from benchmarks.plans import plan_of
from benchmarks.statistics.rounds import summarise_round
from inference.child_process import ChildProcess

LOAD = "benchmarks.load"  # the module that sends the requests
LOOK_S = 0.2  # how soon a cancel is seen
LEASE_EVERY_S = 1.0
NEWS_EVERY_S = 0.5
SILENT_S = 60.0  # a load process that says nothing for so long hangs
STOP_WITHIN_S = 5.0
FREE_BYTES_NEEDED = 64 * 2**20
END_TRIES = 5
log = logging.getLogger(__name__)

Stopping = Callable[[], str]  # why this process has to stop, "" while it has not
Watch = Callable[[dict[str, Any]], None]


class StoppedError(Exception):
    """The run ends before its end."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


def execute(run: Run, *, stopping: Stopping, stopped_as: State, watch: Watch = lambda progress: None) -> None:
    """Measure `run`, which is running, and end it whatever happens. `stopped_as`: the state when `stopping` says so."""
    state, reason = State.DONE, ""
    try:
        Execution(run, stopping, stopped_as, watch).measure()
    except StoppedError as stopped:
        state, reason = stopped.state, stopped.reason
    except BenchmarkError as error:
        state, reason = State.FAILED, str(error)
    except (DatabaseError, OSError) as error:
        log.exception("run %s can't be stored", run.pk)
        state, reason = State.FAILED, f"The results can't be stored: {error}. Is the disk full?"
    except Exception:  # the run must not stay 'running' for whatever reason
        log.exception("run %s failed", run.pk)
        state, reason = (
            State.FAILED,
            "The measurement failed by a mistake of ours; the worker's log tells more.",
        )
    if state in (State.CANCELLED, State.INTERRUPTED):  # at once: figures of a long run take seconds
        _end(run, state, reason)
        _sum_up(run)
    else:
        _sum_up(run)
        _end(run, state, reason)


def _sum_up(run: Run) -> None:
    try:
        services.sum_up(run, alive=lambda: services.keep_lease(run, now=timezone.now()))
    except Exception:  # what was measured is stored; the page tries again when somebody looks
        log.exception("run %s can't be summed up", run.pk)


def _end(run: Run, state: State, reason: str) -> None:
    """Also while the database is away or full for a moment; after that the lease runs out and says the rest."""
    for attempt in range(END_TRIES):
        try:
            services.end_run(run, state, reason, now=timezone.now())
        except DatabaseError:
            log.exception("run %s: its end can't be stored (attempt %s)", run.pk, attempt + 1)
            close_old_connections()
            time.sleep(1)
        else:
            return


@dataclass
class Execution:
    run: Run
    stopping: Stopping
    stopped_as: State
    watch: Watch
    done: int = 0
    errors: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _leased: float = 0.0
    _told: float = 0.0

    def measure(self) -> None:
        """Raises StoppedError, BenchmarkError, DatabaseError, OSError."""
        parameters = Parameters.model_validate(self.run.parameters)
        engine = engine_of(parameters)  # the address and the key are looked at again: both may have changed
        models = check_models(parameters.models, engine_models(engine))
        services.store_fingerprint(self.run, take_fingerprint(self.run.host, engine, models, parameters))
        for number, model in parameters.order():
            if stopped := self._stopped():
                raise stopped
            free = shutil.disk_usage(settings.DATA_DIR).free
            if free < FREE_BYTES_NEEDED:
                raise StoppedError(
                    State.FAILED, f"The disk is full: {free / 2**20:.0f} MiB are free in {settings.DATA_DIR}."
                )
            self._measure_one(parameters, engine, number, model)

    def _measure_one(self, parameters: Parameters, engine: Engine, number: int, model: str) -> None:
        """One load process; what it measured is stored even when it was stopped."""
        started_at = timezone.now()
        answer: dict[str, Any] | None = None
        stopped: StoppedError | None = None
        with ChildProcess(LOAD, plan_of(parameters, engine, model, number).for_process().encode()) as load:
            heard = time.monotonic()
            while not load.ended and (stopped is None or time.monotonic() - heard < STOP_WITHIN_S):
                for message in load.messages(LOOK_S):
                    heard = time.monotonic() if stopped is None else heard
                    if message["type"] in {"started", "progress"}:
                        self._progress(message, parameters, number, model)
                    elif message["type"] == "result":
                        answer = message
                if stopped is None:
                    stopped = self._stopped()
                    if stopped is None and time.monotonic() - heard > SILENT_S:
                        stopped = StoppedError(State.FAILED, "The load generator hung and was ended.")
                    if stopped is not None:
                        heard = time.monotonic()
                        load.stop()
            status, words = load.status() if load.ended else (-9, "")
        broken = "" if answer is None else self._store(parameters, number, model, started_at, answer)
        if stopped is not None:
            raise stopped
        if broken:
            raise EngineError(broken)
        if answer is None:
            raise EngineError(
                words.splitlines()[-1] if words else f"The load generator ended with status {status}."
            )

    def _store(
        self, parameters: Parameters, number: int, model: str, started_at: datetime, answer: dict[str, Any]
    ) -> str:
        """Keep it. Returns why further rounds are in vain, when not one request was answered."""
        result = Result.model_validate(answer["result"])
        summary = summarise_round(result, run=str(self.run.pk), round_=number, slo=parameters.slo)
        services.store_measurement(
            self.run,
            model=model,
            number=number,
            started_at=started_at,
            ended_at=timezone.now(),
            complete=answer["complete"],
            result=answer["result"],
            summary=summary.model_dump(mode="json"),
        )
        statuses = result.requests.status
        failed = [status for status in statuses if status not in {Status.OK, Status.CUT}]
        self.done += len(statuses)
        self.errors += len(failed)
        if failed and len(failed) == len(statuses):
            first = next((error for error in result.requests.error if error), failed[0])
            return f"None of {len(failed)} requests to {model} was answered: {first}"
        return ""

    def _progress(self, message: dict[str, Any], parameters: Parameters, number: int, model: str) -> None:
        """`message`: of the load process, about its own part of the run."""
        done = self.done + message.get("done", 0)
        total = message["total"] * len(parameters.order())
        elapsed_s = time.monotonic() - self.started
        self.progress = {
            "done": done,
            "total": total,
            "errors": self.errors + message.get("errors", 0),
            "tokens_per_s": message.get("tokens_per_s", 0.0),
            "requests_per_s": message.get("requests_per_s", 0.0),
            "elapsed_s": round(elapsed_s, 1),
            "eta_s": round(elapsed_s / done * (total - done), 1) if done else None,
            "model": model,
            "round": number + 1,
            "n_rounds": parameters.n_rounds,
        }
        self.watch(self.progress)
        if time.monotonic() - self._told >= NEWS_EVERY_S:
            self._told = time.monotonic()
            services.tell_progress(self.run, self.progress)

    def _stopped(self) -> StoppedError | None:
        """Whether this process, a person or a lost lease ends the run; renews the lease on the way."""
        if reason := self.stopping():
            return StoppedError(self.stopped_as, reason)
        try:
            row = Run.objects.filter(pk=self.run.pk).values_list("state", "cancel_asked_at", "reason").first()
            if row is None or row[0] != State.RUNNING:
                return StoppedError(State.INTERRUPTED, "the lease ran out")
            if row[1] is not None:
                return StoppedError(State.CANCELLED, row[2])
            if time.monotonic() - self._leased >= LEASE_EVERY_S:
                services.keep_lease(self.run, now=timezone.now(), progress=self.progress)
                self._leased = time.monotonic()
        except DatabaseError:  # away for a moment: the measurement need not suffer; storing it will tell
            log.exception("run %s can't be looked up", self.run.pk)
            close_old_connections()
        return None
