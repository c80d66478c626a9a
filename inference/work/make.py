"""Makes a variant: by the engine, by llama.cpp's own tool, or by our writer."""

import re
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from inference.dependants import dependant
from inference.gguf_tools.container import NotGgufError, read_header
from inference.gguf_tools.importance import Importance, ImportanceError
from inference.gguf_tools.metadata import read_metadata
from inference.gguf_tools.mixes import ENGINE_TYPES, QuantizeError
from inference.gguf_tools.quantize import planned_bytes, planned_types, quantize_file
from inference.quality.allocation import NoAllocationError
from inference.work.budget import read_budget
from inference.work.dynamic import Dynamic, Outcome
from inference.work.engine import EngineClient, Tag
from inference.work.importance import find_importance
from inference.work.messages import WorkError, say, step
from inference.work.plan import DYNAMIC, JobPlan
from inference.work.prompts import search_prompts
from inference.work.room import need_room

SPARE = 1.02  # of the planned size, for padding and manifests
LLAMA_QUANTIZE = "llama-quantize"
OF_TENSOR = re.compile(r"\[ *(\d+)/ *\d+\]")  # it prints `[  12/ 290] name ...` for each tensor


def make_variant(engine: EngineClient, plan: JobPlan) -> frozenset[str]:
    """The target exists afterwards, or nothing of it. Returns digests of the prompts that went into its importance matrix.
    Raises WorkError."""
    started = time.monotonic()
    source = engine.tag(plan.source)
    engine.refuse_taken(plan.target)
    file = engine.file_of(plan.source)
    maker = _maker(plan, file)
    dynamic: dict[str, Any] | None = None
    importance: Importance | None = None
    if maker == "engine":
        _by_engine(engine, plan, source, file)
    else:
        assert file is not None
        dynamic, importance = _by_file(engine, plan, file, maker)
    say_made(engine, plan, source, maker, started)
    if dynamic is not None:
        say("dynamic", **dynamic)
    if importance is None:
        return frozenset()
    say(
        "importance",
        path=str(plan.importance),
        collected=plan.calibration is not None,
        datasets=importance.datasets,
        n_chunks=importance.n_chunks,
        n_entries=len(importance.means),
        n_prompts=len(importance.prompts),
    )
    return frozenset(importance.prompts)


def say_made(engine: EngineClient, plan: JobPlan, source: Tag, maker: str, started: float) -> None:
    """Once the target exists; `started`: of the monotonic clock."""
    made = engine.tag(plan.target)
    say(
        "made",
        maker=maker,
        source={
            "digest": source.digest,
            "size_bytes": source.size_bytes,
            "quantization": source.quantization,
        },
        variant={"digest": made.digest, "size_bytes": made.size_bytes, "quantization": made.quantization},
        took_s=time.monotonic() - started,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _maker(plan: JobPlan, file: Path | None) -> str:
    wanted = plan.maker
    if wanted == "auto":
        wanted = "engine" if plan.level.upper() in ENGINE_TYPES and plan.importance is None else "own"
    if wanted == "engine" and plan.level.upper() not in ENGINE_TYPES:
        raise WorkError(f"The engine itself makes {', '.join(ENGINE_TYPES)} only, not {plan.level}.")
    if wanted != "engine" and file is None:
        raise WorkError(
            f"The file of {plan.source} does not lie on this machine, so that only types which the engine makes itself "
            f"are possible: {', '.join(ENGINE_TYPES)}."
        )
    if plan.level == DYNAMIC:
        return "own"
    if wanted == "llama-quantize" and shutil.which(LLAMA_QUANTIZE) is None:
        raise WorkError("llama-quantize is not on the PATH of the worker.")
    return wanted


def _by_engine(engine: EngineClient, plan: JobPlan, source: Tag, file: Path | None) -> None:
    if file is not None:
        _look_for_room(file, plan.level, [file.parent])
    for line in engine.create(plan.target, **{"from": plan.source}, quantize=plan.level):
        if line.get("total"):
            step("quantize", int(line.get("completed") or 0), int(line["total"]), "bytes")


def _by_file(
    engine: EngineClient, plan: JobPlan, file: Path, maker: str
) -> tuple[dict[str, Any] | None, Importance | None]:
    """What a search of types came to, for level dynamic; and the importance matrix that it was made with."""
    made = plan.folder / "variant.gguf"
    level, types, record = plan.level, {}, None
    try:
        importance = find_importance(plan, file)
        if level == DYNAMIC:
            outcome = _search(plan, file, importance)
            level, types, record = outcome.level, outcome.types, outcome.record
        _look_for_room(file, level, [file.parent, plan.folder], importance)
        if maker == "own":
            quantize_file(
                file,
                made,
                level,
                lambda done, total: step("quantize", done, total, "bytes"),
                types=types,
                importance=importance,
            )
        else:
            _by_llama_quantize(file, made, plan.level, plan.importance)
        take_in(engine, plan, file, made)
    except (QuantizeError, ImportanceError, NotGgufError) as error:
        raise WorkError(str(error)) from error
    except OSError as error:
        raise WorkError(f"The file can't be written: {error.strerror or error}.") from error
    finally:
        made.unlink(missing_ok=True)
    return record, importance


def _search(plan: JobPlan, file: Path, importance: Importance | None) -> Outcome:
    calibration, test = search_prompts(plan, file)
    measures = plan.measures
    try:
        budget = None
        if plan.max_loss is None:
            budget = read_budget(plan.budget).of(read_header(file), importance)
        search = Dynamic(
            file, plan.folder, calibration, test, measures.n_tokens, measures.num_ctx, importance
        )
        return search.search(budget_bytes=budget, max_loss=plan.max_loss)
    except (NoAllocationError, ValueError) as error:
        raise WorkError(str(error)) from error


def _by_llama_quantize(file: Path, made: Path, level: str, importance: Path | None) -> None:
    total = len(read_metadata(file).tensors)
    weighed = [] if importance is None else ["--imatrix", str(importance)]
    command = [LLAMA_QUANTIZE, *weighed, str(file), str(made), level.upper()]
    done, last = 0, ""
    with dependant(command, errors=subprocess.STDOUT) as (process, lines):
        for raw in lines:
            line = raw.decode(errors="replace").strip()
            last = line or last
            if found := OF_TENSOR.match(line):
                done = int(found[1])
                step("quantize", done, total, "tensors")
        status = process.wait()
    if status:
        raise WorkError(f"llama-quantize failed: {last}")


def take_in(engine: EngineClient, plan: JobPlan, source: Path, made: Path) -> None:
    """Give the engine the finished file, with what it knows of the source: template, system text, parameters."""
    step("hand over", 0, 1, "files")
    digest = engine.upload(made)
    known = engine.show(plan.source)
    for _ in engine.create(plan.target, files={"variant.gguf": digest}, **settings_of(known, source)):
        pass
    step("hand over", 1, 1, "files")


def settings_of(known: dict[str, Any], file: Path) -> dict[str, Any]:
    """What `show` says of a model beside its file, as `create` takes it."""
    what: dict[str, Any] = {}
    template = known.get("template") or ""
    if template and template != read_metadata(file).chat_template:
        what["template"] = template
    for name in ("system", "license", "messages"):
        if known.get(name):
            what[name] = known[name]
    if known.get("parameters"):
        what["parameters"] = parameters(known["parameters"])
    return what


def parameters(text: str) -> dict[str, Any]:
    """`stop  "<|end|>"` lines, as `show` writes them, as `create` takes them."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        if not name:
            continue
        if name == "stop":
            found.setdefault(name, []).append(value.strip('"'))
        else:
            found[name] = _number(value)
    return found


def _number(value: str) -> Any:
    if value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value.strip('"')


def _look_for_room(file: Path, level: str, folders: list[Path], importance: Importance | None = None) -> None:
    """For the file as type `level`; see `look_for_room`."""
    header = read_header(file)
    try:
        needed = planned_bytes(header, planned_types(header, level, importance=importance))
    except QuantizeError as error:
        raise WorkError(str(error)) from error
    look_for_room(needed, folders)


def look_for_room(n_bytes: int, folders: list[Path]) -> None:
    """Before the work: a full disk is known beforehand. The file is written into each of the folders once."""
    needed = int(n_bytes * SPARE)
    disks: dict[int, int] = {}
    for folder in folders:
        disks[folder.stat().st_dev] = disks.get(folder.stat().st_dev, 0) + needed
    for folder in folders:
        need_room(folder, disks[folder.stat().st_dev])
