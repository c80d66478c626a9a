"""Which labelled prompts a job measures with."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from inference.errors import JobInputError
from inference.models import PromptSet
from inference.models.prompt_set import SHIPPED
from inference.quality.labelled import HOUSEHOLD, Labelled, parse


@dataclass(frozen=True)
class Prompts:
    """A set by name, with its content."""

    name: str
    sha256: str
    labelled: tuple[Labelled, ...]

    @property
    def as_record(self) -> dict[str, Any]:
        """What a measure keeps of it: figures of two sets are not compared."""
        return {"name": self.name, "sha256": self.sha256, "n": len(self.labelled)}


def find_prompts(name: str) -> Prompts:
    """Empty: the shipped ones. Raises JobInputError."""
    if name in ("", SHIPPED):
        return shipped()
    found = PromptSet.objects.filter(name=name).first()
    if found is None:
        raise JobInputError("prompts", f"There is no prompt set {name!r}; there is {', '.join(names())}.")
    return Prompts(found.name, found.sha256, tuple(parse(found.text)))


@cache
def shipped() -> Prompts:
    text = HOUSEHOLD.read_text()
    return Prompts(SHIPPED, sha256(text.encode()).hexdigest(), tuple(parse(text)))


def names() -> list[str]:
    return [SHIPPED, *PromptSet.objects.values_list("name", flat=True)]


def choices() -> list[tuple[str, str]]:
    """For a form; the empty value is the shipped set."""
    own = PromptSet.objects.values_list("name", "n")
    return [
        ("", f"{SHIPPED} ({len(shipped().labelled)}, shipped)"),
        *((name, f"{name} ({n})") for name, n in own),
    ]
