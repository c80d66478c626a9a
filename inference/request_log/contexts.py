"""How large a context the requests of each model need, by the lengths that were recorded."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import ceil

import numpy as np
from django.db.models import Q, QuerySet

from inference.models import InferenceRequest
from inference.selectors import token_density

READ = 20_000  # newest requests of a filter that are looked at
MODELS = 12  # shown: each asks for its density
LEAST, LEAST_P99 = (
    100,
    1000,
)  # requests: below the first nothing is proposed, below the second the largest counts
MARGIN = 1.15
STEPS = tuple(n * 2**k for k in range(8) for n in (512, 768))  # 512, 768, 1024, 1536, ... 98304
LARGEST = 131_072


@dataclass(frozen=True)
class Context:
    """Tokens are those of prompt and answer together. `proposed` None: too few requests. Counts are of the requests that
    were looked at: `n_over` would not fit into what is proposed, `n_over_now` do not fit into what is in force."""

    model: str
    n: int
    n_cut: int
    n_estimated: int
    in_force: int | None  # the one that most requests had
    n_sizes: int
    p50: int | None
    longest: int
    needed: int | None
    by: str
    proposed: int | None
    n_over: int | None
    n_over_now: int | None


@dataclass(frozen=True)
class Contexts:
    models: list[Context]
    n_more: int
    bounded: bool
    n_looked_at: int


def contexts(requests: QuerySet[InferenceRequest]) -> Contexts:
    rows = list(
        requests.filter(failed=False)
        .exclude(Q(kind="embed") | Q(route__startswith="cloud") | Q(route__startswith="fallback"))
        .values_list("model", "prompt_tokens", "output_tokens", "prompt_bytes", "truncated", "num_ctx")[
            : READ + 1
        ]
    )
    bounded, rows = len(rows) > READ, rows[:READ]
    by_model: dict[str, list[Length]] = defaultdict(list)
    for model, prompt, output, sent, truncated, num_ctx in rows:
        if prompt and output is not None:
            by_model[model].append((prompt, output, sent, truncated, num_ctx))
    largest = sorted(by_model.items(), key=lambda each: -len(each[1]))
    models = [_context(model, lengths) for model, lengths in largest[:MODELS]]
    return Contexts(models, max(len(largest) - MODELS, 0), bounded, len(rows))


Length = tuple[int, int, int | None, str, int | None]


def _context(model: str, lengths: list[Length]) -> Context:
    cut = [each for each in lengths if each[3] in {"possible", "likely"}]
    density = token_density(model) if cut else None
    needs, n_estimated = [], 0
    for prompt, output, sent, truncated, _ in lengths:
        if truncated in {"possible", "likely"} and sent and density is not None:
            prompt = max(prompt, ceil(sent / density.middle))  # what it would have been
            n_estimated += 1
        needs.append(prompt + output)
    sizes = Counter(each[4] for each in lengths if each[4])
    in_force = sizes.most_common(1)[0][0] if sizes else None
    needed, by = need(needs)
    proposed = step(needed * MARGIN) if needed is not None else None
    return Context(
        model=model,
        n=len(needs),
        n_cut=len(cut),
        n_estimated=n_estimated,
        in_force=in_force,
        n_sizes=len(sizes),
        p50=int(np.percentile(needs, 50)),
        longest=max(needs),
        needed=needed,
        by=by,
        proposed=proposed,
        n_over=None if proposed is None else sum(each > proposed for each in needs),
        n_over_now=None if in_force is None else sum(each > in_force for each in needs),
    )


def need(tokens: list[int]) -> tuple[int | None, str]:
    """How many tokens are to fit, and by what measure."""
    if len(tokens) < LEAST:
        return None, f"{LEAST} requests are needed"
    if len(tokens) < LEAST_P99:
        return max(tokens), "the largest"
    return ceil(np.percentile(tokens, 99)), "p99"


def step(tokens: float) -> int:
    """The next size that people use; LARGEST at most."""
    return next((each for each in STEPS if each >= tokens), LARGEST)
