"""Running a job: one process does the work, this side stores what it says, until the end or until something stops it."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from inference.archives import services as archives
from inference.archives.selectors import find as find_archive
from inference.child_process import ChildProcess
from inference.distillation.kept import tidy
from inference.errors import InferenceError, JobInputError
from inference.jobs import services
from inference.jobs.importance import COLLECT, find_calibration, kept_as, path_of
from inference.jobs.parameters import JobParameters, engine
from inference.models import JobState, ModelArchive, ModelJob, Variant
from inference.models.archive import archive_path
from inference.prompt_sets.selectors import Prompts, find_prompts, shipped
from inference.work.plan import JobPlan, Kind

WORK = "inference.work"  # the module that does it
LOOK_S = 0.2  # how soon a cancel is seen
LEASE_EVERY_S = 1.0
NEWS_EVERY_S = 0.5
STOP_WITHIN_S = 5.0
END_TRIES = 5
WITH_PROMPTS = ("quality", "score", "dynamic", "pruning", "distillation")
MEASURES = (
    "tensors", "speed", "quality", "score", "dynamic", "importance", "pruning", "distillation", "unmeasured",
)  # fmt: skip
log = logging.getLogger(__name__)

Stopping = Callable[[], str]  # why this process has to stop, "" while it has not
Watch = Callable[[dict[str, Any]], None]


class StoppedError(Exception):
    """The job ends before its end."""

    def __init__(self, state: JobState, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


def execute(
    job: ModelJob, *, stopping: Stopping, stopped_as: JobState, watch: Watch = lambda message: None
) -> None:
    """Do `job`, which is running, and end it whatever happens. `stopped_as`: the state when `stopping` says so."""
    state, reason = JobState.DONE, ""
    folder = work_folder(job)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Execution(job, folder, stopping, stopped_as, watch).run()
    except StoppedError as stopped:
        state, reason = stopped.state, stopped.reason
    except InferenceError as error:
        state, reason = JobState.FAILED, str(error)
    except (DatabaseError, OSError) as error:
        log.exception("job %s can't be stored", job.pk)
        state, reason = JobState.FAILED, f"The results can't be stored: {error}. Is the disk full?"
    except Exception:  # the job must not stay 'running' for whatever reason
        log.exception("job %s failed", job.pk)
        state, reason = JobState.FAILED, "The job failed by a mistake of ours; the worker's log tells more."
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _end(job, state, reason)


def work_folder(job: ModelJob) -> Path:
    """Where what is being written lies until it is whole."""
    return Path(settings.DATA_DIR) / "work" / f"job-{job.pk}"


def checkpoints() -> Path:
    """The one thing that outlives its job: training that can go on (see distillation.kept for its bounds)."""
    return Path(settings.DATA_DIR) / "work" / "checkpoints"


def remove_what_lost_jobs_left() -> None:
    """Folders of jobs that are not running any more: a killed worker left them. Checkpoints stay, within their bounds."""
    for folder in (Path(settings.DATA_DIR) / "work").glob("job-*"):
        number = folder.name.removeprefix("job-")
        if not ModelJob.objects.filter(pk=number, state=JobState.RUNNING).exists():
            shutil.rmtree(folder, ignore_errors=True)
    if not ModelJob.objects.filter(state=JobState.RUNNING, host=settings.HOST_NAME).exists():
        tidy(checkpoints(), now=timezone.now().timestamp())


def _end(job: ModelJob, state: JobState, reason: str) -> None:
    """Also while the database is away or full for a moment; after that the lease runs out and says the rest."""
    for attempt in range(END_TRIES):
        try:
            services.end_job(job, state, reason, now=timezone.now())
        except DatabaseError:
            log.exception("job %s: its end can't be stored (attempt %s)", job.pk, attempt + 1)
            close_old_connections()
            time.sleep(1)
        else:
            return


@dataclass
class Execution:
    job: ModelJob
    folder: Path
    stopping: Stopping
    stopped_as: JobState
    watch: Watch
    variant: Variant | None = None
    archive: ModelArchive | None = None
    prompts: Prompts = field(default_factory=shipped)
    progress: dict[str, Any] = field(default_factory=dict)
    _step_since: float = field(default_factory=time.monotonic)
    _leased: float = 0.0
    _told: float = 0.0

    def run(self) -> None:
        """Raises StoppedError, InferenceError, DatabaseError, OSError."""
        parameters = JobParameters.model_validate(self.job.parameters)
        self.prompts = find_prompts(parameters.prompts)
        plan = self._plan(parameters)
        if plan.kind == "measure":
            self._found(plan)
        with ChildProcess(WORK, plan.model_dump_json().encode()) as child:
            ended = ""
            while not child.ended:
                for message in child.messages(LOOK_S):
                    ended = self._hear(message, plan) or ended
                if (stopped := self._stopped()) is not None:
                    self._stop(child, plan)
                    raise stopped
            status, words = child.status()
        if ended != "done":
            last = words.splitlines()[-1] if words else f"the process ended with status {status}"
            raise InferenceError(ended or f"The work broke off: {last}.")
        self._end_step()
        if parameters.delete_after:
            self._delete_after()

    def _delete_after(self) -> None:
        """Only now: what takes its place is whole and listed."""
        if self.archive is not None:
            archives.delete_source(self.archive, now=timezone.now())
        elif self.job.kind == "unarchive" and (used := find_archive(self.job.source)) is not None:
            archives.delete_archive(used, who=self.job.who, now=timezone.now(), but_for=self.job)

    def _plan(self, parameters: JobParameters) -> JobPlan:
        asked = engine(parameters.engine_kind)
        importance, calibration = None, None
        if parameters.importance == COLLECT:
            calibration = find_calibration(parameters.calibration, parameters.prompts)
            tag = asked.tags.get(self.job.source)
            if tag is None:
                raise JobInputError("source", f"The engine has no model {self.job.source} any more.")
            importance = kept_as(self.job.source, tag.digest, calibration)
        elif parameters.importance:
            importance = path_of(parameters.importance)
        return JobPlan(
            kind=cast("Kind", self.job.kind),
            engine_url=asked.url,
            engine_kind=parameters.engine_kind,
            source=self.job.source,
            target=self.job.target,
            level=parameters.level,
            maker=parameters.maker,
            budget=parameters.budget,
            max_loss=parameters.max_loss,
            importance=importance,
            calibration=calibration,
            layers=parameters.layers,
            distillation=parameters.distillation,
            checkpoints=checkpoints(),
            job=self.job.pk,
            folder=self.folder,
            measures=parameters.measures,
            archive=archive_path(self.job.source),
            packing=parameters.packing,
            labelled=self.prompts.labelled,
        )

    def _found(self, plan: JobPlan) -> None:
        """Both models of a measurement exist already."""
        tags = engine(plan.engine_kind).tags
        pair = {}
        for which, name in (("source", plan.source), ("variant", plan.target)):
            if name not in tags:
                raise JobInputError(which, f"The engine has no model {name} any more.")
            tag = tags[name]
            pair[which] = {
                "digest": tag.digest,
                "size_bytes": tag.size_bytes,
                "quantization": tag.quantization,
            }
        self._made(plan, pair, maker="")

    def _made(self, plan: JobPlan, pair: dict[str, Any], maker: str) -> None:
        self.variant = services.record_variant(
            self.job, engine_kind=plan.engine_kind, made=pair, maker=maker, now=timezone.now()
        )

    def _hear(self, message: dict[str, Any], plan: JobPlan) -> str:
        """Store it. Returns `done`, or the sentence of an error, at the end."""
        kind = message.pop("type")
        self.watch({"type": kind, **message})
        if kind == "step":
            self._step(message)
        elif kind == "made":
            making = {name: message[name] for name in ("took_s", "peak_rss_bytes")}
            self._made(plan, message, message["maker"])
            self._measured("making", making)
        elif kind == "archived":
            self.archive = archives.record_archive(
                self.job, plan.engine_kind, self.folder, message, now=timezone.now()
            )
        elif kind == "unarchived":
            services.record_result(self.job, message)
        elif kind in MEASURES:
            if kind in WITH_PROMPTS:
                message["prompts"] = self.prompts.as_record
            self._measured(kind, message)
        return kind if kind == "done" else str(message.get("text", ""))

    def _measured(self, name: str, values: dict[str, Any]) -> None:
        assert self.variant is not None
        services.record_measure(self.variant, name, values, now=timezone.now())

    def _step(self, progress: dict[str, Any]) -> None:
        if self.progress and progress["step"] != self.progress["step"]:
            self._end_step()
        self.progress = progress
        if time.monotonic() - self._told >= NEWS_EVERY_S:
            self._told = time.monotonic()
            services.tell_progress(self.job, progress)

    def _end_step(self) -> None:
        now = time.monotonic()
        if self.progress:
            services.end_step(self.job, self.progress["step"], now - self._step_since)
        self._step_since = now

    def _stop(self, child: ChildProcess, plan: JobPlan) -> None:
        """Ask it to clean up and end; a model that its engine finished meanwhile is kept, for it is whole."""
        child.stop()
        end = time.monotonic() + STOP_WITHIN_S
        while not child.ended and time.monotonic() < end:
            for message in child.messages(LOOK_S):
                if message["type"] == "made":
                    self._hear(message, plan)

    def _stopped(self) -> StoppedError | None:
        """Whether this process, a person or a lost lease ends the job; renews the lease on the way."""
        if reason := self.stopping():
            return StoppedError(self.stopped_as, reason)
        try:
            row = (
                ModelJob.objects.filter(pk=self.job.pk)
                .values_list("state", "cancel_asked_at", "reason")
                .first()
            )
            if row is None or row[0] != JobState.RUNNING:
                return StoppedError(JobState.INTERRUPTED, "the lease ran out")
            if row[1] is not None:
                return StoppedError(JobState.CANCELLED, row[2])
            if time.monotonic() - self._leased >= LEASE_EVERY_S:
                services.keep_lease(self.job, now=timezone.now(), progress=self.progress)
                self._leased = time.monotonic()
        except DatabaseError:  # away for a moment: the work need not suffer; storing its result will tell
            log.exception("job %s can't be looked up", self.job.pk)
            close_old_connections()
        return None
