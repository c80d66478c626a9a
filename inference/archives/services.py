"""Writes of the archives, and what follows when a job made or used one."""

from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction

from inference import events
from inference.catalogue import services as catalogue
from inference.engines.selectors import address
from inference.errors import InferenceError, NotAllowedError
from inference.models import JobState, ModelArchive, ModelJob
from inference.models.archive import archive_path
from inference.work.archive import PACKED


def record_archive(
    job: ModelJob, engine_kind: str, folder: Path, said: dict[str, Any], *, now: datetime
) -> ModelArchive:
    """Move the whole, verified file to its place and list it: both or none. Raises OSError, DatabaseError."""
    place = archive_path(job.target)
    place.parent.mkdir(parents=True, exist_ok=True)
    is_moved = False
    try:
        with transaction.atomic():  # the name is ours alone once the row is written
            archive = ModelArchive.objects.create(
                name=job.source,
                engine_kind=engine_kind,
                file=job.target,
                who=job.who,
                at=now,
                job=job,
                **said,
            )
            (folder / PACKED).rename(place)
            is_moved = True
            events.tell("archive", archive.pk)
    except BaseException:
        if is_moved:
            place.unlink(missing_ok=True)
        raise
    return archive


def delete_source(archive: ModelArchive, *, now: datetime) -> None:
    """The model goes from its engine, now that its archive is listed. Raises InferenceError."""
    engine, job = address(archive.engine_kind), archive.job
    try:
        if engine is None:
            raise NotAllowedError(f"There is no engine {archive.engine_kind} any more.")
        catalogue.delete_model(engine, archive.name, who=archive.who, now=now, but_for=job)
    except InferenceError as error:
        raise InferenceError(f"The archive is whole, but the model was not deleted: {error}") from error


def delete_archive(
    archive: ModelArchive, *, who: str, now: datetime, but_for: ModelJob | None = None
) -> None:
    """The file goes; the row says when and by whom. Raises NotAllowedError while a job unarchives it."""
    jobs = ModelJob.objects.filter(source=archive.file, state__in=(JobState.QUEUED, JobState.RUNNING))
    job = jobs.exclude(pk=but_for.pk if but_for else 0).first()
    if job is not None:
        raise NotAllowedError(f"Model job {job.pk} ({job.state}) unarchives it.")
    try:
        archive.path.unlink(missing_ok=True)
    except OSError as error:
        raise NotAllowedError(f"{archive.file} can't be deleted: {error.strerror}.") from error
    archive.state, archive.gone_at, archive.gone_by = ModelArchive.State.GONE, now, who
    archive.save(update_fields=("state", "gone_at", "gone_by"))
    events.tell("archive", archive.pk)
