"""Effective values of a profile: its own, else its parent's, and so on, else the default. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuning.fields import FIELDS, Values

MAX_DEPTH = 8  # a profile and its ancestors
DEFAULT = "default"


class InheritanceError(ValueError):
    """The parents make a circle, or too long a line; the text says which."""


@dataclass(frozen=True)
class Effective:
    """A value and where it is from: a profile's name, or DEFAULT. None: set nowhere."""

    value: Any
    source: str


def lineage(name: str, parent_of: Mapping[str, str | None]) -> list[str]:
    """The profile and its ancestors, nearest first. Raises InheritanceError."""
    line = [name]
    while (parent := parent_of.get(line[-1])) is not None:
        if parent in line:
            raise InheritanceError(f"{' -> '.join([*line, parent])} is a circle: choose another parent.")
        line.append(parent)
    if len(line) > MAX_DEPTH:
        raise InheritanceError(
            f"{' -> '.join(line)} is more than {MAX_DEPTH} profiles deep: choose a parent nearer the root."
        )
    return line


def check_tree(parent_of: Mapping[str, str | None]) -> None:
    """Raises InheritanceError for the first profile whose line is no good."""
    for name in parent_of:
        lineage(name, parent_of)


def effective(line: Sequence[tuple[str, Values]], defaults: Values) -> dict[str, Effective]:
    """Every field's value over `line` (name, own values; nearest first)."""
    found: dict[str, Effective] = {}
    for field in FIELDS:
        for name, values in line:
            if values.get(field.name) is not None:
                found[field.name] = Effective(values[field.name], name)
                break
        else:
            found[field.name] = Effective(defaults.get(field.name), DEFAULT)
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, before, after) of what differs, in the order of `after`."""
    keys = [*after, *(key for key in before if key not in after)]
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]
