"""Was a prompt cut to fit num_ctx? Engines do so without a word; what is left is arithmetic.

A real Ollama keeps num_keep tokens of a prompt that does not fit, and of its end half of the rest; older ones fill num_ctx. Of
a chat they leave out older messages, so that any number may be left. So two things are looked at: whether the bytes sent make
more tokens than fit, by the bytes that a token of this model holds in its other requests, and how many were evaluated.

docs/requests.md says the rule in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEAST_TOKENS = 32  # below, a template's own tokens drown those of the prompt
LEAST_REQUESTS = 5
# Bytes that a token holds in plain English; where a model's requests are short, its own figure is far too small.
USUAL = 4.0
DENSE = 6.0  # more than this, where nothing is known of the model, is not usual in any language
LEFT = 0.75  # of the tokens expected at least: more than that is no cut to a half


class Cut(StrEnum):
    UNKNOWN = ""
    NO = "no"
    POSSIBLE = "possible"
    LIKELY = "likely"


@dataclass(frozen=True)
class Density:
    """Bytes a token of one model, of its other requests: the middle one, and one that few exceed."""

    middle: float
    high: float


@dataclass(frozen=True)
class Seen:
    """What is known of a request. `num_ctx`: in force, None where unknown; `kept`: num_keep, likewise."""

    kind: str
    sent_bytes: int | None
    evaluated: int | None
    num_ctx: int | None
    kept: int | None

    @property
    def is_told(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.sent_bytes and self.evaluated)


def teaches(sent_bytes: int, num_ctx: int | None) -> bool:
    """Whether a request may tell how many bytes a token holds: one that perhaps did not fit may not."""
    return num_ctx is None or sent_bytes / USUAL < num_ctx


def density(samples: Sequence[tuple[int, int]]) -> Density | None:
    """Of (bytes, tokens) of requests that were not cut; None where they are too few."""
    found = sorted(sent / tokens for sent, tokens in samples if tokens >= LEAST_TOKENS and sent)
    if len(found) < LEAST_REQUESTS:
        return None
    middle = found[len(found) // 2]
    return Density(middle, min(found[min(int(0.9 * len(found)), len(found) - 1)], 2 * middle))


def judge(seen: Seen, usual: Density | None) -> tuple[Cut, str]:
    """The verdict and the sentence that gives its reason."""
    if not seen.sent_bytes or not seen.evaluated:
        return Cut.UNKNOWN, ""
    here = seen.sent_bytes / seen.evaluated
    if seen.num_ctx is None:
        if usual is None:
            return Cut.UNKNOWN, ""
        if seen.evaluated >= LEAST_TOKENS and here >= 2 * max(usual.high, USUAL):
            return Cut.POSSIBLE, (
                f"{_told(seen)}: {here:.1f} bytes a token, where other requests of this model have {usual.middle:.1f}."
                " num_ctx is not known."
            )
        return Cut.NO, ""
    at_mark = _at_mark(seen)
    if usual is None:
        if at_mark and here >= DENSE:
            return Cut.POSSIBLE, (
                f"{_told(seen)}, just what num_ctx {seen.num_ctx:,} leaves of a prompt that is cut. How many bytes a token"
                " of this model holds is not known yet."
            )
        return (Cut.NO, "") if seen.sent_bytes < seen.num_ctx else (Cut.UNKNOWN, "")
    least = seen.sent_bytes / max(usual.high, USUAL)
    probable = seen.sent_bytes / usual.middle
    if least >= seen.num_ctx and seen.evaluated <= LEFT * least and (at_mark or seen.kind == "chat"):
        return Cut.LIKELY, (
            f"{_told(seen)}. So many bytes make {least:,.0f} tokens or more, and num_ctx is {seen.num_ctx:,}."
        )
    if probable >= seen.num_ctx and at_mark and seen.evaluated <= LEFT * probable:
        return Cut.POSSIBLE, (
            f"{_told(seen)}, just what num_ctx {seen.num_ctx:,} leaves of a prompt that is cut. At the"
            f" {usual.middle:.1f} bytes a token of other requests of this model it has about {probable:,.0f} tokens."
        )
    return Cut.NO, ""


def _at_mark(seen: Seen) -> bool:
    """Whether as many were evaluated as a cut leaves; one more or less, for a token that begins a text."""
    if seen.num_ctx is None or seen.evaluated is None:
        return False
    marks = [seen.num_ctx]
    if seen.kind != "embed":
        kept = min(4 if seen.kept is None else seen.kept, max(seen.num_ctx - 4, 0))
        marks.append(kept + (seen.num_ctx - kept) // 2)
    return any(abs(seen.evaluated - mark) <= 1 for mark in marks)


def _told(seen: Seen) -> str:
    return f"Of {seen.sent_bytes:,} bytes sent, {seen.evaluated:,} tokens were evaluated"
