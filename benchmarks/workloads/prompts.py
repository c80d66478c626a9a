"""Prompts: of a shipped set, or synthetic ones of a given length, each with an id; the same seed gives the same order."""

import base64
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DATA = Path(__file__).parent / "data"
WORDS = (DATA / "words.txt").read_text().split()  # everyday ones, about one token each


@dataclass(frozen=True, slots=True)
class Prompt:
    """`images`: PNG files in base64. `described`: what to send instead to a model that takes no images; None: the text."""

    id: str
    text: str
    images: tuple[str, ...] = ()
    described: str | None = None

    def without_images(self) -> "Prompt":
        return Prompt(self.id, self.described or self.text)


def read_set(name: str) -> list[Prompt]:
    """All prompts of a shipped set, images read."""
    entries = json.loads((DATA / f"{name}.json").read_text())
    return [
        Prompt(
            each["id"],
            each["text"],
            tuple(base64.b64encode((DATA / image).read_bytes()).decode() for image in each.get("images", ())),
            each.get("described"),
        )
        for each in entries
    ]


def in_order(prompts: list[Prompt], seed: int) -> Iterator[Prompt]:
    """Without end: all of them in a shuffled order, then again in another."""
    for turn in itertools.count():
        yield from random.Random(f"order {seed} {turn}").sample(prompts, len(prompts))


def synthetic(n_words: int, seed: int) -> Iterator[Prompt]:
    """Without end: prompts of so many words, all different."""
    for number in itertools.count():
        yield Prompt(f"synthetic-{number}", words(n_words, f"{seed} {number}"))


def words(n: int, seed: str) -> str:
    return " ".join(random.Random(f"words {seed}").choices(WORDS, k=n))


def with_nonces(prompts: Iterator[Prompt]) -> Iterator[Prompt]:
    """The same, each text started with a number never used before, in this run or another: no cache knows its beginning."""
    random_ = random.SystemRandom()
    for prompt in prompts:
        nonce = random_.randrange(10**7, 10**8)
        described = None if prompt.described is None else f"[{nonce}] {prompt.described}"
        yield replace(prompt, text=f"[{nonce}] {prompt.text}", described=described)
