"""Writes of the prompt sets."""

import re
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import Q

from inference.errors import JobInputError, NotAllowedError
from inference.models import JobState, ModelJob, PromptSet
from inference.models.prompt_set import SHIPPED
from inference.quality.labelled import MAX_BYTES, LabelError, parse

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


def add_prompts(name: str, raw: bytes, *, who: str, now: datetime) -> PromptSet:
    """The same content under the same name is taken as it is. Raises JobInputError with field `name` or `file`."""
    if not NAME.fullmatch(name):
        raise JobInputError(
            "name", f"{name!r} is no name for a set: letters, digits, '.', '_' and '-', 60 at most."
        )
    if len(raw) > MAX_BYTES:
        raise JobInputError("file", f"The file is larger than {MAX_BYTES // 2**20} MiB.")
    try:
        text = raw.decode("utf-8-sig")
        n = len(parse(text))
    except UnicodeDecodeError as error:
        raise JobInputError("file", "The file is no UTF-8 text.") from error
    except LabelError as error:
        raise JobInputError("file", str(error)) from error
    if "\0" in text:
        raise JobInputError("file", "The file has a NUL character.")
    digest = sha256(text.encode()).hexdigest()
    taken = f"There is a prompt set {name} with other content: choose another name, or delete it first."
    if name == SHIPPED:
        raise JobInputError("name", f"{SHIPPED} is the name of the shipped set: choose another one.")
    try:
        with transaction.atomic():
            found, _ = PromptSet.objects.get_or_create(
                name=name, defaults={"text": text, "sha256": digest, "n": n, "who": who, "at": now}
            )
    except IntegrityError as error:  # the same name at the same moment
        raise JobInputError("name", taken) from error
    if found.sha256 != digest:
        raise JobInputError("name", taken)
    return found


def add_file(path: Path, *, who: str, now: datetime) -> PromptSet:
    """Under the file's name without its ending. Raises JobInputError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise JobInputError("prompts", f"{path} can't be read: {error.strerror}.") from error
    try:
        return add_prompts(path.stem, raw, who=who, now=now)
    except JobInputError as error:
        raise JobInputError("prompts", f"{path}: {error}") from error


def delete_prompts(prompts: PromptSet) -> None:
    """Raises NotAllowedError while a job waits for it or works with it. Its figures stay, under its name."""
    open_jobs = ModelJob.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING))
    named = Q(parameters__prompts=prompts.name) | Q(parameters__calibration=prompts.name)
    job = open_jobs.filter(named).first()
    if job is not None:
        raise NotAllowedError(f"Model job {job.pk} ({job.state}) needs {prompts.name}.")
    prompts.delete()
