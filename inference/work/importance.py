"""The importance matrix of a job: read from its file, or collected first from what the model reads."""

import json
import subprocess
import sys
from pathlib import Path

from inference.gguf_tools.activations import Order
from inference.gguf_tools.container import read_header
from inference.gguf_tools.importance import Importance, read_importance
from inference.work.messages import WorkError, step
from inference.work.plan import Calibration, JobPlan
from inference.work.probe import Probe, n_threads, probing
from inference.work.prompts import ChatTemplate, calibration_prompts, digest

CHUNK = 512  # tokens of a long text that are read together, as llama-imatrix does
LEAST = 16  # tokens: a shorter rest of a text is left out


def find_importance(plan: JobPlan, file: Path) -> Importance | None:
    """None where none is asked for. Raises WorkError, ImportanceError, OSError."""
    if plan.importance is None:
        return None
    if plan.calibration is not None:
        _collect(plan, plan.calibration, file, plan.importance)
    found = read_importance(plan.importance)
    found.check(read_header(file))
    return found


def _collect(plan: JobPlan, calibration: Calibration, file: Path, kept: Path) -> None:
    made = plan.folder / "importance.gguf"
    prompts: list[str] = []
    with probing(file, plan.measures.num_ctx) as probe:
        if calibration.text is not None:
            sequences = _of_text(plan, probe, calibration.text)
        else:
            sequences, prompts = _of_prompts(plan, probe, calibration, file)
    _read(Order(str(file), str(made), sequences, [calibration.name], prompts, n_threads()))
    kept.parent.mkdir(parents=True, exist_ok=True)
    made.replace(kept)


def _of_text(plan: JobPlan, probe: Probe, path: Path) -> list[list[int]]:
    """Its tokens in pieces, each with what the model wants at a beginning."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkError(f"{path.name} is no UTF-8 text.") from error
    judging = plan.labelled if plan.measures.with_prompts or plan.is_searched else ()
    if known := sum(each.prompt in text for each in judging):
        raise WorkError(
            f"{path.name} has {known} of the prompts that the variant is to be measured with: take another text or set."
        )
    begin = probe.tokens("")[:1]
    tokens = probe.tokens(text)[len(begin) :]
    size = min(CHUNK, plan.measures.num_ctx) - len(begin)
    found = [begin + tokens[place : place + size] for place in range(0, len(tokens), size)]
    found = [each for each in found if len(each) >= LEAST]
    if not found:
        raise WorkError(f"{path.name} is too short: {LEAST} tokens are the least.")
    return found


def _of_prompts(
    plan: JobPlan, probe: Probe, calibration: Calibration, file: Path
) -> tuple[list[list[int]], list[str]]:
    """Each prompt with the model's own answer to it, and the digests of the prompts."""
    chosen = calibration_prompts(plan, calibration.labelled)
    if not chosen:
        raise WorkError(
            f"Every prompt of {calibration.name} is one that the variant is measured with: take another set or a text."
        )
    template, found = ChatTemplate(file), []
    for number, each in enumerate(chosen, 1):
        tokens = probe.tokens(template.render(each.prompt))
        found.append(tokens + probe.continuation(tokens, plan.measures.n_tokens))
        step("answer the prompts", number, len(chosen), "prompts")
    return found, [digest(each.prompt) for each in chosen]


def _read(order: Order) -> None:
    """In a process of its own. Raises WorkError."""
    total, done = len(order.sequences), 0
    command = [sys.executable, "-m", "inference.gguf_tools.activations"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(order.encoded())
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "error" in message:
                    raise WorkError(message["error"])
                done = message["done"]
                step("collect activations", done, total, "texts")
        except BrokenPipeError:
            pass  # it ended already
        finally:
            process.kill()
    if not Path(order.out).is_file():
        raise WorkError(
            f"llama.cpp broke off after {done} of {total} texts that it was to read for the importance matrix."
        )
