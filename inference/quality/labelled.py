"""Prompts with known right answers: a file of JSON lines, and the score of a model on it.

A line is `{"prompt": "...", "answer": "..."}`, or `"answers": [...]` when several are right, or `"lines": [[...], ...]` when
each line of the answer has its own right variants."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import scipy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

HOUSEHOLD = Path(__file__).with_name("household.jsonl")
MAX_PROMPTS, MAX_BYTES = 5000, 4 * 2**20
LEVEL = 0.95


class LabelError(ValueError):
    """The text is no labelled prompt set; the sentence names the line and the field."""


class Labelled(BaseModel):
    """One prompt; the answer is right when each of its lines is one of the variants of that line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1, max_length=20_000)
    answer: str | None = None
    answers: tuple[str, ...] | None = None
    lines: tuple[tuple[str, ...], ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Labelled":
        if sum(each is not None for each in (self.answer, self.answers, self.lines)) != 1:
            raise ValueError("give exactly one of answer, answers, lines")
        if not (self.answer if self.answers is None and self.lines is None else self.answers or self.lines):
            raise ValueError("the right answer is empty")
        return self

    @property
    def right(self) -> list[str]:
        """The right answers, or the right variants of each line, for people."""
        if self.lines is not None:
            return [" / ".join(variants) for variants in self.lines]
        return list(self.answers or (self.answer or "",))

    def is_right(self, text: str) -> bool:
        """White space at the ends of lines, and empty lines at the ends of the answer, do not count."""
        given = _lines(text)
        if self.lines is not None:
            return len(given) == len(self.lines) and all(
                line in [" ".join(each.split()) for each in variants]
                for line, variants in zip(given, self.lines, strict=True)
            )
        return any(given == _lines(each) for each in self.answers or (self.answer or "",))


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def parse(text: str) -> list[Labelled]:
    """Raises LabelError."""
    if len(text.encode()) > MAX_BYTES:
        raise LabelError(f"The file is larger than {MAX_BYTES // 2**20} MiB.")
    found: list[Labelled] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(Labelled.model_validate(json.loads(line)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise LabelError(f"Line {number}, {place}: {first['msg']}.") from error
        except (ValueError, RecursionError) as error:  # no JSON; a number of 5,000 digits; 5,000 brackets
            raise LabelError(f"Line {number} is no JSON: {error}.") from error
    if not found:
        raise LabelError("The file has no prompt.")
    if len(found) > MAX_PROMPTS:
        raise LabelError(f"{len(found)} prompts, where {MAX_PROMPTS} are the most.")
    return found


@dataclass(frozen=True)
class Score:
    """Of the same prompts by two models; intervals at 95 % by Wilson, `p` by McNemar's exact test of the flips."""

    n: int
    n_right_reference: int
    n_right_candidate: int
    reference: tuple[float, float]
    candidate: tuple[float, float]
    n_lost: int  # right before, wrong now
    n_won: int
    p: float


def score(reference: Sequence[bool], candidate: Sequence[bool]) -> Score:
    """For each prompt whether the answer was right. Raises ValueError without a prompt or for two lengths."""
    if not reference:
        raise ValueError("no prompt to score")
    pairs = list(zip(reference, candidate, strict=True))
    n_lost = sum(before and not now for before, now in pairs)
    n_won = sum(now and not before for before, now in pairs)
    changed = n_lost + n_won
    return Score(
        n=len(pairs),
        n_right_reference=sum(reference),
        n_right_candidate=sum(candidate),
        reference=_wilson(sum(reference), len(pairs)),
        candidate=_wilson(sum(candidate), len(pairs)),
        n_lost=n_lost,
        n_won=n_won,
        p=float(scipy.stats.binomtest(n_lost, changed).pvalue) if changed else 1.0,
    )


def _wilson(k: int, n: int) -> tuple[float, float]:
    found = scipy.stats.binomtest(k, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)
