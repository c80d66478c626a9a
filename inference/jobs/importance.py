"""Importance matrices and texts that lie on this machine, and what a job makes of the choice among them."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from django.conf import settings

from inference.errors import JobInputError
from inference.gguf_tools.importance import ImportanceError, read_importance
from inference.models import Variant
from inference.prompt_sets.selectors import find_prompts, names
from inference.quality.labelled import MAX_BYTES
from inference.work.plan import Calibration

COLLECT = "collect"  # in place of a file: made for this job, and kept
MATRICES, TEXTS = (".gguf", ".dat"), (".txt",)


def folder() -> Path:
    return Path(settings.DATA_DIR) / "importance"


def files(endings: tuple[str, ...]) -> list[str]:
    """Names of those that lie in the folder."""
    found = folder().iterdir() if folder().is_dir() else ()
    return sorted(each.name for each in found if each.suffix in endings and each.is_file())


def path_of(name: str) -> Path:
    """A path stays what it is."""
    return folder() / name


def check_importance(importance: str, calibration: str, prompts: str) -> None:
    """Raises JobInputError for a file that is none, and for texts that are none."""
    if importance == COLLECT:
        find_calibration(calibration, prompts)
        return
    if calibration:
        raise JobInputError("calibration", "A text is only read when the importance matrix is collected.")
    if not path_of(importance).is_file():
        known = ", ".join(files(MATRICES)) or "none yet"
        raise JobInputError(
            "importance",
            f"There is no importance matrix {importance!r}: say {COLLECT}, the path of a file, or the name of one in "
            f"{folder()} ({known}).",
        )
    try:
        read_importance(path_of(importance))
    except ImportanceError as error:
        raise JobInputError("importance", str(error)) from error


def find_calibration(name: str, prompts: str) -> Calibration:
    """`name`: a prompt set or a text; empty: the set that is measured with, of which half is left. Raises JobInputError."""
    wanted = name or prompts
    if not wanted or wanted in names():
        found = find_prompts(wanted)
        return Calibration(name=found.name, labelled=found.labelled)
    path = path_of(wanted)
    try:
        n_bytes = path.stat().st_size
    except OSError as error:
        raise JobInputError(
            "calibration",
            f"There is no prompt set and no text {wanted!r}: take {', '.join([*names(), *files(TEXTS)])}, or the path of a "
            "text file.",
        ) from error
    if not 0 < n_bytes <= MAX_BYTES:
        raise JobInputError(
            "calibration", f"{path.name} has {n_bytes:,} bytes, where {MAX_BYTES:,} are the most."
        )
    return Calibration(name=path.name, text=path)


def kept_as(source: str, source_digest: str, calibration: Calibration) -> Path:
    """Where what is collected stays: one file for each content of model and text."""
    read = calibration.text.read_bytes() if calibration.text else calibration.model_dump_json().encode()
    content = sha256(source_digest.encode() + read).hexdigest()[:8]
    name = f"{source}-{Path(calibration.name).stem}-{content}.gguf"
    return folder() / name.replace("/", "-").replace(":", "-")


def as_facts(variant: Variant) -> list[tuple[str, str]]:
    """What the variant was weighed with, for people."""
    found: dict[str, Any] | None = variant.measure("importance")
    if not found:
        return []
    texts = ", ".join(found["datasets"]) or "texts that it does not name"
    unit = "prompts" if found["n_prompts"] else "pieces"
    amount = f" ({found['n_chunks']:,} {unit})" if found["n_chunks"] else ""
    how = "collected from" if found["collected"] else "read from a file, made of"
    return [
        ("Importance matrix", f"{how} {texts}{amount}, for {found['n_entries']:,} tensors"),
        ("Its file", found["path"]),
    ]
