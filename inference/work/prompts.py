"""Prompts as the model sees them: its own chat template around a message, for requests that go without one."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference.gguf_tools.container import NotGgufError, read_header
from inference.gguf_tools.importance import PROMPTS
from inference.quality.labelled import Labelled
from inference.work.messages import WorkError
from inference.work.plan import JobPlan


class ChatTemplate:
    """Of a GGUF file. Without a file, or with a template that fails, a message is passed as plain text: both models see
    the same prefix either way."""

    def __init__(self, file: Path | None) -> None:
        self.source, self.bos = "", ""
        if file is not None:
            try:
                keys = read_header(file, arrays=True).keys
            except NotGgufError:
                return
            self.source = str(keys.get("tokenizer.chat_template") or "")
            if not keys.get("tokenizer.ggml.add_bos_token", keys.get("tokenizer.ggml.model") == "llama"):
                self.bos = _token(keys, "tokenizer.ggml.bos_token_id")

    def render(self, message: str) -> str:
        if not self.source:
            return message
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            return environment.from_string(self.source).render(
                messages=[{"role": "user", "content": message}],
                add_generation_prompt=True,
                bos_token=self.bos,
                eos_token="",
                tools=None,
                enable_thinking=False,
            )
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError):
            return message


def search_prompts(plan: JobPlan, file: Path) -> tuple[list[str], list[str]]:
    """For a search and for the judgement of what it found, both of the second half of the prompts; the first is for the
    measures afterwards. Raises WorkError for too few."""
    template = ChatTemplate(file)
    half = [template.render(each.prompt) for each in plan.labelled[len(plan.labelled) // 2 :]]
    if len(half) < 8:
        raise WorkError(f"A search needs 16 labelled prompts or more; there are {len(plan.labelled)}.")
    n = max(plan.measures.n_prompts, 1)
    return half[0::2][:n], half[1::2][:n]


def calibration_prompts(plan: JobPlan, labelled: Sequence[Labelled]) -> list[Labelled]:
    """Those that neither a measure nor the judgement of a search asks."""
    half = len(plan.labelled) // 2
    judging = [
        *(plan.labelled[:half] if plan.measures.with_prompts else ()),
        *(plan.labelled[half + 1 :: 2] if plan.is_searched else ()),
    ]
    taken = {each.prompt for each in judging}
    return [each for each in labelled if each.prompt not in taken]


def digest(prompt: str) -> str:
    """Tells a prompt from others within a file that was made with it."""
    return sha256(prompt.encode()).hexdigest()[:16]


def read_for_importance(file: Path | None) -> frozenset[str]:
    """Digests of the prompts that went into the importance matrix of a model, as far as its file tells."""
    if file is None:
        return frozenset()
    try:
        return frozenset(read_header(file, arrays=True).keys.get(f"quantize.{PROMPTS}") or ())
    except NotGgufError:
        return frozenset()


def _token(keys: dict[str, Any], name: str) -> str:
    tokens, number = keys.get("tokenizer.ggml.tokens") or [], keys.get(name)
    return str(tokens[number]) if isinstance(number, int) and number < len(tokens) else ""


def _refuse(text: str) -> None:
    raise jinja2.TemplateError(text)
