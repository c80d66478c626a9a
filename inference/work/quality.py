"""Asks two models the same things: the next token after the same prefixes, and the labelled prompts."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict

from inference.quality.divergence import Position, Top, measure
from inference.quality.labelled import Labelled, score
from inference.work.engine import EngineClient
from inference.work.messages import say, step

ANSWER_TOKENS = 256


def compare_tokens(
    engine: EngineClient, source: str, variant: str, prompts: Sequence[str], n_tokens: int
) -> None:
    """Teacher-forced: `source` continues each prompt greedily, then both tell the next token after each prefix of that.

    All of one model's questions come together, so that an engine with room for one loads each once."""
    prefixes: list[list[tuple[str, bytes]]] = []  # of each prompt: the prefix, and what source chose after it
    for number, prompt in enumerate(prompts, 1):
        tokens = [token for token, _ in engine.continuation(source, prompt, num_predict=n_tokens)]
        prefixes.append(_prefixes(prompt, tokens))
        step("read the source", number, len(prompts), "prompts")
    reference = _distributions(engine, source, prefixes, "ask the source")
    candidate = _distributions(engine, variant, prefixes, "ask the variant")
    positions = [
        [
            Position(chosen, p, q)
            for (_, chosen), p, q in zip(places, before, after, strict=True)
            if p and q  # nothing told: the model ended there
        ]
        for places, before, after in zip(prefixes, reference, candidate, strict=True)
    ]
    if any(positions):
        say("quality", n_tokens=n_tokens, **asdict(measure(positions)))
    else:
        say("unmeasured", what="quality", why=f"{source} says nothing after any of the prompts")


def _prefixes(prompt: str, tokens: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Those that are whole characters: half of one can't be sent as text."""
    found, raw = [], prompt.encode()
    for token in tokens:
        with contextlib.suppress(UnicodeDecodeError):
            found.append((raw.decode(), token))
        raw += token
    return found


def _distributions(
    engine: EngineClient, model: str, prefixes: Sequence[Sequence[tuple[str, bytes]]], doing: str
) -> list[list[Top]]:
    total, done = sum(map(len, prefixes)), 0
    found: list[list[Top]] = []
    for places in prefixes:
        found.append([])
        for prefix, _ in places:
            answer = engine.continuation(model, prefix, num_predict=1)
            found[-1].append(answer[0][1] if answer else {})
            done += 1
            step(doing, done, total, "tokens")
    return found


def compare_answers(engine: EngineClient, source: str, variant: str, labelled: Sequence[Labelled]) -> None:
    right: dict[str, list[bool]] = {}
    for which, model in (("source", source), ("variant", variant)):
        right[which] = []
        for number, each in enumerate(labelled, 1):
            answer = engine.chat(model, each.prompt, num_predict=ANSWER_TOKENS)
            right[which].append(each.is_right(answer))
            step(f"score the {which}", number, len(labelled), "answers")
    say("score", **asdict(score(right["source"], right["variant"])))
