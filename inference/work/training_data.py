"""What a distillation trains on and is judged by: prompts with answers as the teacher's tokens, and the layers that stay."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.distillation.examples import Example
from inference.distillation.kept import DATA, Keeper
from inference.distillation.settings import MIN_PROMPTS, Distillation, spread
from inference.distillation.shape import Shape
from inference.gguf_tools.container import Header
from inference.quality.labelled import Labelled
from inference.work.messages import WorkError, step
from inference.work.plan import JobPlan
from inference.work.probe import Probe, probing
from inference.work.prompts import ChatTemplate
from inference.work.pruning import Pruning
from inference.work.quality import ANSWER_TOKENS

END_KEYS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eos_token_id")


@dataclass(frozen=True)
class Data:
    """What training starts from; kept with the checkpoints, so that a job that goes on has the same."""

    kept: tuple[int, ...]  # layers of the teacher
    examples: list[Example]
    held_out: list[Example]


def held_out_of(plan: JobPlan) -> Sequence[Labelled]:
    """The first half of the prompts; neither training nor the choice of layers sees them."""
    return plan.labelled[: len(plan.labelled) // 2]


def trained_on(plan: JobPlan, n_most: int) -> list[Labelled]:
    """Of the second half, what is not held out in the same words. Raises WorkError for too few."""
    held_out = {each.prompt for each in held_out_of(plan)}
    found = [each for each in plan.labelled[len(held_out_of(plan)) :] if each.prompt not in held_out]
    if len(plan.labelled) < MIN_PROMPTS or not found:
        raise WorkError(f"Distilling needs {MIN_PROMPTS} different labelled prompts or more.")
    return found[:n_most]


def training_data(
    plan: JobPlan, wanted: Distillation, keeper: Keeper, file: Path, header: Header, shape: Shape
) -> Data:
    """As it was prepared before, or prepared now. Raises WorkError, PruneError, OSError."""
    try:
        known = json.loads((keeper.folder / DATA).read_bytes())
    except (OSError, ValueError):
        pass
    else:
        keeper.note()
        examples, held_out = ([Example(*each) for each in known[name]] for name in ("examples", "held_out"))
        return Data(tuple(known["kept"]), examples, held_out)
    labelled = trained_on(plan, wanted.steps * wanted.batch)
    held_out_prompts = held_out_of(plan)[: max(plan.measures.n_prompts, 1)]
    kept = _chosen(plan, wanted, file, shape, labelled)
    most = min(shape.context, plan.measures.num_ctx)
    with probing(file, plan.measures.num_ctx) as probe:
        reader = _Reader(probe, ChatTemplate(file), header, most, len(labelled) + len(held_out_prompts))
        examples, held_out = (
            [read for each in prompts if (read := reader.read(each, labelled=wanted.answers == "labelled"))]
            for prompts in (labelled, held_out_prompts)
        )
    data = Data(kept, examples, held_out)
    if not data.examples or not data.held_out:
        raise WorkError(f"No prompt and its answer fit into the context of {most} tokens.")
    text = json.dumps({"kept": data.kept, "examples": data.examples, "held_out": data.held_out})
    keeper.write(DATA, lambda out: out.write(text.encode()))
    keeper.note(0)
    return data


@dataclass
class _Reader:
    """Prompts and answers as the teacher's tokens."""

    probe: Probe
    template: ChatTemplate
    header: Header
    most: int
    total: int
    done: int = 0

    def read(self, each: Labelled, *, labelled: bool) -> Example | None:
        """With the teacher's greedy answer, or with the set's own: of several right ones the first, its end marked. None for
        one without an answer or too long."""
        tokens = self.probe.tokens(self.template.render(each.prompt))
        if labelled:
            text = "\n".join(lines[0] for lines in each.lines) if each.lines else each.right[0]
            answer = self.probe.tokens(self.template.render(each.prompt) + text)[len(tokens) :]
            answer += [int(self.header.keys[key]) for key in END_KEYS if key in self.header.keys][:1]
        else:
            answer = self.probe.continuation(tokens, ANSWER_TOKENS)
        self.done += 1
        step("read the teacher", self.done, self.total, "prompts")
        return Example(tokens + answer, len(tokens)) if answer and len(tokens + answer) <= self.most else None


def _chosen(
    plan: JobPlan, wanted: Distillation, file: Path, shape: Shape, labelled: Sequence[Labelled]
) -> tuple[int, ...]:
    """Layers that stay. Raises WorkError."""
    if wanted.choice == "spread":
        return spread(shape.n_layers, wanted.layers)
    template = ChatTemplate(file)
    prompts = [template.render(each.prompt) for each in labelled]
    n = max(plan.measures.n_prompts, 1)
    search = Pruning(
        file, plan.folder, prompts[0::2][:n], prompts[1::2][:n] or prompts[:n], plan.measures.n_tokens,
        plan.measures.num_ctx,
    )  # fmt: skip
    found = search.search(n_drop=shape.n_layers - wanted.layers, max_loss=None)
    return tuple(layer for layer in range(shape.n_layers) if layer not in found.dropped)
