"""What a person asks of a job."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.utils import timezone
from pydantic import BaseModel, ConfigDict

from inference.archives.selectors import find as find_archive
from inference.archives.selectors import suggested_file
from inference.distillation import needs
from inference.distillation.settings import MIN_PROMPTS, Distillation
from inference.distillation.shape import ARCHITECTURES
from inference.engines.selectors import EngineAddress, address, addresses
from inference.errors import JobInputError
from inference.gguf_tools.mixes import FILE_TYPES, NEED_IMPORTANCE, SOURCES, UNWEIGHED
from inference.jobs.importance import check_importance
from inference.models import JobKind, Variant
from inference.names import full_name, taken
from inference.prompt_sets.selectors import find_prompts
from inference.work.archive import only_file
from inference.work.budget import read_budget
from inference.work.engine import EngineClient, Tag
from inference.work.messages import WorkError
from inference.work.plan import DYNAMIC, Maker, Measures, Packing

# host/namespace/model:tag, as Ollama takes names
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/-]{0,180}(:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,79})?")
ASK_WITHIN_S = 5.0
HIGH_PRECISION = {each.name for each in SOURCES}


class JobParameters(BaseModel):
    """Stored with the job; `level` and `maker` only count where something is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine_kind: str  # its name
    level: str = ""
    maker: Maker = "auto"
    budget: str = "q4_K_M"  # of level dynamic, unless there is a max_loss
    max_loss: float | None = None
    prompts: str = ""  # the labelled set; empty: the shipped one
    packing: Packing = "gzip"  # of an archive
    delete_after: bool = False  # the model once its archive is listed, the archive once its model is made
    importance: str = ""  # matrix: none, COLLECT, or its file
    calibration: str = ""  # what is read for it: a prompt set or a text; empty: the half of `prompts` that is not measured with
    layers: int | None = None  # that are dropped; None: as many as keep to max_loss
    distillation: Distillation | None = None
    measures: Measures = Measures()


@dataclass(frozen=True)
class EngineModels:
    """An engine that answers, with its models; or one that does not, and why."""

    name: str
    url: str
    kind: str
    tags: dict[str, Tag]
    problem: str = ""


def engines() -> list[EngineModels]:
    """All local engines, asked now."""
    return [_asked(each) for each in addresses()]


def engine(name: str) -> EngineModels:
    """Raises JobInputError when it does not answer."""
    found = address(name)
    if found is None:
        known = ", ".join(each.name for each in addresses())
        raise JobInputError("engine", f"There is no engine {name!r}; there is {known}.")
    asked = _asked(found)
    if asked.problem:
        raise JobInputError("engine", asked.problem)
    return asked


def _asked(engine: EngineAddress) -> EngineModels:
    client = EngineClient(engine.url, num_ctx=256, answer_within_s=ASK_WITHIN_S)
    try:
        return EngineModels(engine.name, engine.url, engine.kind, client.tags())
    except WorkError as error:
        return EngineModels(engine.name, engine.url, engine.kind, {}, str(error))
    finally:
        client.close()


def why_gone(variant: Variant) -> str:
    """Why it can't answer, by the word of its engine; "" where it can, or the engine does not answer."""
    found = address(variant.engine_kind)
    if found is None:
        return f"There is no engine {variant.engine_kind} any more."
    asked = _asked(found)
    tag = asked.tags.get(variant.name)
    if asked.problem or (tag is not None and tag.digest in {"", variant.digest}):
        return ""
    if tag is None:
        return f"{found.label} has no model {variant.name} any more."
    return f"{variant.name} is another file now than the one that was measured."


def check(kind: str, source: str, target: str, parameters: JobParameters) -> tuple[str, str]:
    """Full names of source and target, after everything that can be known before the work. Raises JobInputError."""
    asked = engine(parameters.engine_kind)
    known = asked.tags
    if kind == JobKind.UNARCHIVE:
        return _check_unarchive(source, target, known)
    source = _name("source", source)
    if source not in known:
        raise JobInputError(
            "source", f"The engine has no model {source}. It has {', '.join(known) or 'none'}."
        )
    if kind == JobKind.ARCHIVE:
        return source, _check_archive(asked, source, parameters.packing)
    find_prompts(parameters.prompts)
    if kind == "measure":
        target = _name("target", target)
        if target not in known:
            raise JobInputError("target", f"The engine has no model {target}. It has {', '.join(known)}.")
        if target == source:
            raise JobInputError("target", "Choose another model than the source.")
        return source, target
    if kind == "prune":
        _check_pruning(source, parameters)
        suffix = "pruned" if parameters.layers is None else f"pruned-{parameters.layers}"
        return source, _free("target", target or suggested_target(source, suffix), known)
    if kind == "distill":
        wanted = parameters.distillation
        if wanted is None:
            raise JobInputError("layers", "Say how many layers the student has.")
        target = _free("target", target or suggested_target(source, f"distilled-{wanted.layers}"), known)
        _check_distillation(source, wanted, parameters)
        return source, target
    _check_level(parameters)
    _check_importance(parameters)
    precision = known[source].quantization
    if precision and precision not in HIGH_PRECISION:
        raise JobInputError(
            "source", f"{source} is quantized already ({precision}). Start from its F16, BF16 or F32 form."
        )
    suffix = f"{parameters.level}-imatrix" if parameters.importance else parameters.level
    return source, _free("target", target or suggested_target(source, suffix), known)


def _free(field: str, name: str, known: Iterable[str]) -> str:
    name = _name(field, name)
    if there := taken(name, known):
        raise JobInputError(
            field, f"There is a model {there} already. Choose another name, or delete it first."
        )
    return name


def _check_pruning(source: str, parameters: JobParameters) -> None:
    if parameters.layers is None and parameters.max_loss is None:
        raise JobInputError("layers", "Say how many layers go, or the most loss, or both.")
    _check_loss(parameters)
    if parameters.layers is None:
        return
    if parameters.layers < 1:
        raise JobInputError("layers", "At least one layer has to go.")
    total = _told(source, parameters, "block_count")
    if isinstance(total, int) and parameters.layers >= total:
        raise JobInputError(
            "layers", f"{source} has {total} layers, so that at most {total - 1} can be dropped."
        )


def _check_distillation(source: str, wanted: Distillation, parameters: JobParameters) -> None:
    """What is not installed comes last: it can't be put right on the page."""
    if (n := len(find_prompts(parameters.prompts).labelled)) < MIN_PROMPTS:
        raise JobInputError(
            "prompts", f"Distilling needs {MIN_PROMPTS} labelled prompts or more; there are {n}."
        )
    architecture = _told(source, parameters, "architecture", of="general")
    if architecture is not None and architecture not in ARCHITECTURES:
        raise JobInputError(
            "source",
            f"The architecture of {source} is {architecture}; only {', '.join(ARCHITECTURES)} is known.",
        )
    total = _told(source, parameters, "block_count")
    if isinstance(total, int) and wanted.layers >= total:
        raise JobInputError(
            "layers", f"{source} has {total} layers, so that a student has {total - 1} at most."
        )
    if why := needs.missing():
        raise JobInputError("pytorch", why)


def _told(source: str, parameters: JobParameters, key: str, of: str = "") -> object:
    """A key of the model's file as the engine tells it, `of` its architecture unless said; None where it does not."""
    client = EngineClient(engine(parameters.engine_kind).url, num_ctx=256, answer_within_s=ASK_WITHIN_S)
    try:
        info = client.show(source).get("model_info") or {}
    except WorkError as error:
        raise JobInputError("source", str(error)) from error
    finally:
        client.close()
    return info.get(f"{of or info.get('general.architecture')}.{key}")


def _check_loss(parameters: JobParameters) -> None:
    if parameters.max_loss is not None and not 0 < parameters.max_loss < math.inf:
        raise JobInputError("max_loss", "The most loss is a number above 0 (nats per token, e.g. 0.001).")


def _check_archive(asked: EngineModels, source: str, packing: Packing) -> str:
    """The name of the file to come."""
    client = EngineClient(asked.url, num_ctx=256, answer_within_s=ASK_WITHIN_S)
    try:
        only_file(client, source)
    except WorkError as error:
        raise JobInputError("source", str(error)) from error
    finally:
        client.close()
    return suggested_file(source, timezone.now(), packing)


def _check_unarchive(source: str, target: str, known: dict[str, Tag]) -> tuple[str, str]:
    """`source`: an archive's file, or the model that was archived."""
    archive = find_archive(source) or find_archive(full_name(source))
    if archive is None:
        raise JobInputError("source", f"There is no archive of {source!r}.")
    if archive.is_missing:
        raise JobInputError("source", f"{archive.file} is gone from {archive.path.parent}.")
    return archive.file, _free("target", target or archive.name, known)


def _check_level(parameters: JobParameters) -> None:
    if parameters.level != DYNAMIC:
        if parameters.level.upper() not in FILE_TYPES:
            raise JobInputError(
                "level",
                f"{parameters.level!r} is no type; choose {DYNAMIC} or one of {', '.join(FILE_TYPES)}.",
            )
        return
    _check_loss(parameters)
    try:
        read_budget(parameters.budget)
    except ValueError as error:
        raise JobInputError("budget", str(error)) from error


def _check_importance(parameters: JobParameters) -> None:
    level = parameters.level.upper()
    if not parameters.importance:
        if level in NEED_IMPORTANCE:
            raise JobInputError(
                "importance",
                f"{level} needs an importance matrix: have one collected, or choose a file. Without one it is garbage.",
            )
        if parameters.calibration:
            raise JobInputError("calibration", "A text is only read when the importance matrix is collected.")
        return
    if level in UNWEIGHED:
        raise JobInputError(
            "importance", f"{level} is the same with an importance matrix as without: take none."
        )
    if parameters.maker == "engine":
        raise JobInputError(
            "maker", "The engine itself takes no importance matrix: choose our own writer or llama-quantize."
        )
    check_importance(parameters.importance, parameters.calibration, parameters.prompts)


def suggested_target(source: str, level: str) -> str:
    """`name:latest` -> `name:q4_K_M`; `name:7b` -> `name:7b-q4_K_M`."""
    name, _, tag = full_name(source).rpartition(":")
    return f"{name}:{level}" if tag == "latest" else f"{name}:{tag}-{level}"


def _name(field: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise JobInputError(
            field, f"{name!r} is no model name: letters, digits, '.', '_', '-', and ':' before the tag."
        )
    return full_name(name)
