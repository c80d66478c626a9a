"""Options of single models within a profile: pattern -> Ollama's option -> value. Pure: no Django, no engine.

docs/profiles.md says which of two patterns counts, and before what."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from inference.names import full_name
from tuning.fields import Field, in_range, number, problem
from tuning.inheritance import Effective

ModelOptions = dict[str, dict[str, float]]
MOST_PATTERNS = 50
PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._/:*?-]{0,199}")
WILD = re.compile(r"[*?]")


def _integer(name: str, low: float, high: float, acts: str) -> Field:
    return Field(name, name, "integer", "", acts, "", low, high)


def _number(name: str, low: float, high: float, acts: str) -> Field:
    return Field(name, name, "number", "", acts, "", low, high)


OPTIONS: Mapping[str, Field] = {
    each.name: each
    for each in (
        _integer("num_ctx", 64, 1_048_576, "context in tokens; another value loads the model anew"),
        _integer("num_batch", 1, 8192, "prompt tokens taken at a time; loads anew"),
        _integer("num_thread", 1, 1024, "CPU threads, within the profile's CPU limit; loads anew"),
        _integer("num_gpu", 0, 999, "layers on the GPU, 0 where the profile says GPU off; loads anew"),
        _integer("num_predict", 1, 131_072, "longest answer in tokens"),
        _integer("num_keep", 0, 131_072, "tokens of the prompt that stay when the context is full"),
        _number("temperature", 0, 2, "how freely words are chosen"),
        _integer("top_k", 0, 100_000, "the most likely tokens that are considered"),
        _number("top_p", 0.01, 1, "share of the probability that is considered"),
        _number("min_p", 0, 1, "least probability beside the most likely token"),
        _number("typical_p", 0, 1, "typical sampling"),
        _integer("seed", 0, 2**31 - 1, "fixed: the same prompt gives the same answer"),
        _integer(
            "repeat_last_n", -1, 131_072, "tokens looked back at for repetitions; -1: the whole context"
        ),
        _number("repeat_penalty", 0.1, 5, "penalty of repetitions"),
        _number("presence_penalty", -2, 2, "penalty of words that stood already"),
        _number("frequency_penalty", -2, 2, "the same by how often"),
    )
}


def normal(pattern: str) -> str:
    """A name without wildcards is a full one, as everywhere: `llama3` is `llama3:latest`."""
    pattern = pattern.strip()
    return pattern if WILD.search(pattern) else full_name(pattern)


def pattern_problem(pattern: Any) -> str | None:
    if not isinstance(pattern, str) or not PATTERN.fullmatch(pattern.strip()):
        return (
            f"{pattern!r} is no pattern of model names: letters, digits and . _ - / : of a name,"
            " * for anything, ? for one character."
        )
    return None


def option_problem(option: Any, value: Any) -> str | None:
    """What is wrong with the value; None as a value is wrong too: a row that sets nothing."""
    if option not in OPTIONS:
        return f"{option!r} is no option; there is {', '.join(OPTIONS)}."
    if value is None:
        return f"Give a value: {in_range(OPTIONS[option])}."
    return problem(OPTIONS[option], value)


def problems(options: Any) -> list[str]:
    """One sentence each, naming pattern and option."""
    if not isinstance(options, dict):
        return ["Give a mapping of patterns to options, such as {'llama3*': {'num_ctx': 4096}}."]
    found = []
    for pattern, values in options.items():
        if wrong := pattern_problem(pattern):
            found.append(wrong)
        elif not isinstance(values, dict) or not values:
            found.append(f"{pattern}: give at least one option, such as num_ctx: 4096.")
        else:
            found += [
                f"{pattern}: {option}: {wrong}"
                for option, value in values.items()
                if (wrong := option_problem(option, value))
            ]
    if not found and len({normal(pattern) for pattern in options}) < len(options):
        found.append("Two patterns are the same: a name without a tag is that with :latest.")
    if len(options) > MOST_PATTERNS:
        found.append(f"At most {MOST_PATTERNS} patterns: {len(options)} are given.")
    return found


def normalized(options: ModelOptions) -> ModelOptions:
    """In one order, so that the same options are equal."""
    named = {normal(pattern): values for pattern, values in options.items()}
    return {
        pattern: {option: named[pattern][option] for option in OPTIONS if option in named[pattern]}
        for pattern in sorted(named)
    }


def effective(line: Sequence[tuple[str, ModelOptions]]) -> dict[str, dict[str, Effective]]:
    """Over `line` (profile, own options; nearest first): of the same pattern and option the nearest counts. Patterns from
    the most specific to the least."""
    found: dict[str, dict[str, Effective]] = {}
    for name, options in line:
        for pattern, values in options.items():
            for option, value in values.items():
                found.setdefault(pattern, {}).setdefault(option, Effective(value, name))
    return {pattern: found[pattern] for pattern in sorted(found, key=specificity)}


def specificity(pattern: str) -> tuple[bool, int, str]:
    """Sorts the most specific first: a name before a pattern, then by the letters that are no wildcards."""
    return bool(WILD.search(pattern)), -len(WILD.sub("", pattern)), pattern


def gateway_models(options: ModelOptions) -> list[list[Any]]:
    """As inference.gateway.profile.Profile takes them, [pattern, options]: the most specific last."""
    return [[pattern, options[pattern]] for pattern in sorted(options, key=specificity, reverse=True)]


def flat(options: ModelOptions) -> dict[str, str]:
    """`{"llama3*: num_ctx": "4096"}`, to be compared and shown."""
    return {
        f"{pattern}: {option}": number(value)
        for pattern, values in options.items()
        for option, value in values.items()
    }
