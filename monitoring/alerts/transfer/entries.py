"""What a file says and what taking it would do: the parts that all of its lists share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from monitoring.alerts.machine import Severity

LISTS = ("channels", "policies", "rules", "silences")  # in the order in which they need each other
MOST_CHARS, MOST_ENTRIES = 1_000_000, 2000
SEVERITIES = {each.name.lower(): int(each) for each in Severity}


class AlertsFileError(ValueError):
    """One line a problem, each naming its line, its entry and its field."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class Entry:
    """What taking one entry would do. `changes`: (field, before, after); `notes` say what comes of it besides;
    `store` (by whom, when) does it."""

    what: str
    name: str
    store: Callable[[str, datetime], object]
    status: str = "new"  # new, changed, same, over
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(self, before: dict[str, Any] | None, after: dict[str, Any], usual: dict[str, Any]) -> None:
        """Set what changes. Of the rows what they leave out is `usual`."""
        if before is None:
            self.changes = [(each, "", shown(value)) for each, value in after.items() if each != "name"]
            return
        values = [
            (each, before.get(each, usual.get(each)), after.get(each, usual.get(each)))
            for each in dict.fromkeys([*before, *after])
        ]
        self.changes = [(each, shown(old), shown(new)) for each, old, new in values if old != new]
        self.status = "changed" if self.changes else "same"


class File:
    """The lists of a file; `problems` collects what is wrong in them."""

    def __init__(self, text: str) -> None:
        """Raises AlertsFileError for what leaves nothing to look at."""
        self.problems: list[str] = []
        self._tree, self._lines = _parsed(text)

    def rows(self, key: str) -> list[tuple[str, Any]]:
        """(where it stands, what it is)."""
        lines = self._lines.get(key, [])
        return [
            (f"line {lines[place]}: {key}[{place}]" if place < len(lines) else f"{key}[{place}]", row)
            for place, row in enumerate(self._tree.get(key) or [])
        ]

    def named(self, key: str, what: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """Name -> (where it stands, what it is); of those without a name, and of second ones, a problem."""
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for where, row in self.rows(key):
            if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                self.problems.append(f"{where}: name: it has to be a mapping with a name.")
                continue
            where = f"{where.rpartition(' ')[0]} {what} {row['name']}".strip()
            if row["name"] in found:
                self.problems.append(f"{where}: name: it stands twice in the file.")
            else:
                found[row["name"]] = where, row
        return found

    def say(self, where: str, name: str, text: object) -> None:
        self.problems.append(f"{where}: {name}: {text}")

    def knows_fields(
        self, where: str, row: dict[str, Any], usual: dict[str, Any], others: Iterable[str] = ()
    ) -> bool:
        """Whether it has none but those of `usual` and `others`, with values like them; each other one is a problem."""
        before = len(self.problems)
        known = {*usual, *others}
        for each in sorted(str(each) for each in row if each not in known):
            self.say(where, each, "no such field; look for a spelling mistake.")
        for name, value in row.items():
            if isinstance(value, dict):
                self.say(where, str(name), "give a value, not a mapping.")
            elif isinstance(usual.get(name), bool) and not isinstance(value, bool):
                self.say(where, name, f"{value!r} is neither true nor false.")
        return len(self.problems) == before

    def severity(self, where: str, name: str, value: Any) -> int | None:
        """None: it is none, which is a problem."""
        found = SEVERITIES.get(value) if isinstance(value, str) else None
        if found is None:
            self.say(where, name, f"{value!r} is none of {', '.join(SEVERITIES)}.")
        return found


class _Loader(yaml.SafeLoader):
    """Refuses a mapping with a key twice: only the last of two values would count, and nobody would know."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise AlertsFileError(
                    [f"line {line}: {key.value}: it stands twice in one mapping: leave one out."]
                )
            seen.add(str(key.value) if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


def _parsed(text: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """What the file says, and on which line each entry of each list begins."""
    if len(text) > MOST_CHARS:
        raise AlertsFileError([f"the file has more than {MOST_CHARS} characters."])
    loader: Any = _Loader(text)
    try:
        node = loader.get_single_node()
        if _size(node, {}) > MOST_CHARS:
            raise AlertsFileError([f"its aliases (*name) stand for more than {MOST_CHARS} values."])
        tree = loader.construct_document(node) if node is not None else None
    except AlertsFileError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AlertsFileError([f"not valid YAML: {error}"]) from error
    finally:
        loader.dispose()
    if not isinstance(tree, dict) or not set(tree) <= set(LISTS):
        raise AlertsFileError([f"the file must be a mapping with some of the keys {', '.join(LISTS)}."])
    for key, rows in tree.items():
        if rows is not None and not isinstance(rows, list):
            raise AlertsFileError([f"{key}: must be a list."])
        if rows and len(rows) > MOST_ENTRIES:
            raise AlertsFileError([f"{key}: more than {MOST_ENTRIES} entries."])
    lines = {
        key.value: [each.start_mark.line + 1 for each in rows.value]
        for key, rows in node.value
        if isinstance(rows, yaml.SequenceNode)
    }
    return tree, lines


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node is, with what its aliases stand for: a few lines of them can be billions. One that holds
    itself is without end."""
    if id(node) not in known:
        known[id(node)] = MOST_CHARS + 1  # while it is being counted
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(node)]


def sent(values: dict[str, Any]) -> dict[str, Any]:
    """As a browser would send them: without what is empty or switched off."""
    return {
        name: "on" if value is True else str(value)
        for name, value in values.items()
        if value is not None and value is not False
    }


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def said(errors: Any) -> str:
    return " ".join(map(str, errors))
