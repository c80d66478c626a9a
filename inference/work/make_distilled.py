"""Makes a student with fewer layers, trained on its teacher's distributions, and a control that was trained without them."""

import time
from pathlib import Path
from typing import Any

from inference.distillation import needs
from inference.distillation.files import student_bytes
from inference.distillation.kept import About, Keeper, key_of, tidy
from inference.distillation.settings import Distillation, spread
from inference.distillation.shape import Shape, ShapeError, n_weights, read_shape
from inference.gguf_tools.container import Header, NotGgufError, read_header
from inference.gguf_tools.prune import PruneError
from inference.work.against_control import CONTROL, STUDENT, compare_with_control
from inference.work.engine import EngineClient, Tag
from inference.work.make import look_for_room, say_made, take_in
from inference.work.messages import WorkError, say
from inference.work.plan import JobPlan
from inference.work.quality import ANSWER_TOKENS
from inference.work.room import need_memory
from inference.work.training_data import Data, held_out_of, training_data


def make_distilled(engine: EngineClient, plan: JobPlan) -> None:
    """The target exists afterwards, or nothing of it but checkpoints. Raises WorkError."""
    started = time.monotonic()
    wanted = plan.distillation
    assert wanted is not None
    if why := needs.missing():
        raise WorkError(why)
    source = engine.tag(plan.source)
    engine.refuse_taken(plan.target)
    file = engine.file_of(plan.source)
    if file is None:
        raise WorkError(f"The file of {plan.source} does not lie on this machine, and a teacher's has to.")
    files = {name: plan.folder / f"{name}.gguf" for name in (STUDENT, CONTROL)}
    try:
        header = read_header(file)
        shape = read_shape(header)
        if wanted.layers >= shape.n_layers:
            raise WorkError(f"{plan.source} has {shape.n_layers} layers, and a student needs fewer.")
        _look_for_room(plan, file, header, shape, wanted)
        need_memory(needed_memory(header, shape, wanted, plan.measures.num_ctx))
        keeper = _keeper(plan, source, wanted)
        data = training_data(plan, wanted, keeper, file, header, shape)
        record = _train(keeper, file, header, shape, wanted, data, files)
        compared = compare_with_control(
            file,
            (files[STUDENT], files[CONTROL]),
            held_out_of(plan),
            max(plan.measures.n_prompts, 1),
            plan.measures.n_scored,
            n_tokens=plan.measures.n_tokens,
            num_ctx=plan.measures.num_ctx,
        )
        take_in(engine, plan, file, files[STUDENT])
    except (ShapeError, PruneError, NotGgufError) as error:
        raise WorkError(f"{plan.source} can't be distilled: {error}.") from error
    except OSError as error:
        raise WorkError(f"The file can't be written: {error.strerror or error}.") from error
    finally:
        for each in files.values():
            each.unlink(missing_ok=True)
    say_made(engine, plan, source, "pytorch", started)
    say("distillation", **record, against=compared.record())
    keeper.remove()


def _look_for_room(plan: JobPlan, file: Path, header: Header, shape: Shape, wanted: Distillation) -> None:
    """Checkpoints of both students while a new one is written (weights and two moments of each, in F32), both files, or one
    that a search of layers tries; and the student's once more at the engine's."""
    layers = spread(shape.n_layers, wanted.layers)
    checkpoints, student = 3 * 12 * n_weights(header, layers), student_bytes(header, layers)
    tried = file.stat().st_size if wanted.choice == "measured" else 0
    look_for_room(student, [file.parent])
    look_for_room(checkpoints + max(2 * student, tried), [plan.folder])


def needed_memory(header: Header, shape: Shape, wanted: Distillation, num_ctx: int) -> int:
    """About: the teacher, a student with gradients and two moments, and one step's activations and distributions, all F32."""
    teacher = n_weights(header, tuple(range(shape.n_layers)))
    student = n_weights(header, spread(shape.n_layers, wanted.layers))
    n_tokens = wanted.batch * min(num_ctx, 2 * ANSWER_TOKENS)
    activations = n_tokens * wanted.layers * (12 * shape.dim + 4 * shape.ffn)
    return 4 * (teacher + 4 * student + activations + 6 * wanted.batch * ANSWER_TOKENS * shape.vocab)


def _keeper(plan: JobPlan, source: Tag, wanted: Distillation) -> Keeper:
    key = key_of(
        {
            "source": source.digest,
            "target": plan.target,
            "engine": plan.engine_kind,
            "wanted": wanted.model_dump(),
            "labelled": [each.model_dump() for each in plan.labelled],
            "n_prompts": plan.measures.n_prompts,
            "n_tokens": plan.measures.n_tokens,
            "num_ctx": plan.measures.num_ctx,
        }
    )
    tidy(plan.checkpoints, now=time.time(), but_for=key)
    about = About(
        key=key,
        job=plan.job,
        engine_kind=plan.engine_kind,
        source=plan.source,
        target=plan.target,
        done=0,
        total=2 * wanted.steps,
        saved_at=time.time(),
    )
    return Keeper(plan.checkpoints, about)


def _train(
    keeper: Keeper,
    file: Path,
    header: Header,
    shape: Shape,
    wanted: Distillation,
    data: Data,
    files: dict[str, Path],
) -> dict[str, Any]:
    """Writes both students' files; what the record says of how they were made."""
    from inference.work.train_students import train_both  # PyTorch, which only this needs

    told = train_both(keeper, file, header, shape, wanted, data, files)
    return {
        **wanted.model_dump(),
        "n_layers": shape.n_layers,
        "kept": data.kept,
        "n_examples": len(data.examples),
        "n_example_tokens": sum(each.n_answer for each in data.examples),
        "n_held_out": len(data.held_out),
        **told,
    }
