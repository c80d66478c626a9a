"""Where the time of one request went."""

from dataclasses import dataclass

from inference.models import InferenceRequest


@dataclass(frozen=True)
class Part:
    """`colour`: of tokens.css; `share` of the total, 0 to 1."""

    label: str
    ms: float
    colour: str
    share: float


def parts(row: InferenceRequest) -> list[Part]:
    """In the order in which they happened; empty where the engine tells none. What is left is the way there and back."""
    told = [
        ("waiting for a slot", row.queue_ms, "s4"),
        ("loading the model", row.load_ms, "s2"),
        ("reading the prompt", row.prompt_eval_ms, "s1"),
        ("generating", row.eval_ms, "s3"),
    ]
    known = [(label, ms, colour) for label, ms, colour in told if ms]
    if not known or row.total_ms <= 0:
        return []
    rest = row.total_ms - sum(ms for _, ms, _ in known)
    whole = max(row.total_ms, row.total_ms - rest)
    found = [*known, ("the rest", rest, "s8")] if rest > 0 else known
    return [Part(label, ms, colour, ms / whole) for label, ms, colour in found]
