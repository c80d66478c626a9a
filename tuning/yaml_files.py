"""Profiles as YAML: what `manage.py profile export` writes and `import` reads. Pure."""

from collections.abc import Iterable
from typing import Any

import yaml

from tuning import model_options
from tuning.fields import BY_NAME, CATEGORIES, TARGET_HARDWARE, TARGET_USES, problem

ABOUT = ("description", "category", "target_hardware", "target_use", "tags", "parent")
CHOICES = {"category": CATEGORIES, "target_hardware": TARGET_HARDWARE, "target_use": TARGET_USES}


class ProfileFileError(ValueError):
    """One line a problem, each naming its key."""


def write(profiles: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """`profiles`: (name, snapshot). What is left open is left out."""
    rows = [
        {"name": name, **{key: value for key, value in snapshot.items() if value not in (None, "", [])}}
        for name, snapshot in profiles
    ]
    return yaml.safe_dump({"profiles": rows}, sort_keys=False, allow_unicode=True)


def read(text: str) -> dict[str, dict[str, Any]]:
    """Name -> snapshot, in the order of the file; left out is left open. Raises ProfileFileError."""
    try:
        tree = yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # a date that there is not; ten thousand brackets
        raise ProfileFileError(f"not valid YAML: {error}") from error
    if not isinstance(tree, dict) or set(tree) != {"profiles"} or not isinstance(tree["profiles"], list):
        raise ProfileFileError("the file must be a mapping with the one key 'profiles', which holds a list.")
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for position, row in enumerate(tree["profiles"]):
        where = f"profiles[{position}]"
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            problems.append(f"{where}: must be a mapping with a 'name'.")
            continue
        name = row["name"]
        where = f"{where} ({name})"
        if name in found:
            problems.append(f"{where}: name: {name} stands twice in the file.")
        problems += [f"{where}: {each}" for each in _problems(row)]
        about = {"description": "", "category": "custom", "target_hardware": "any", "target_use": "any"}
        found[name] = {**about, "tags": [], "parent": None, **dict.fromkeys(BY_NAME), **row}
        del found[name]["name"]
    if problems:
        raise ProfileFileError("\n".join(problems))
    if not found:
        raise ProfileFileError("'profiles' is empty: there is nothing to import.")
    return found


def _problems(row: dict[str, Any]) -> list[str]:
    found = []
    for key, value in row.items():
        if key in BY_NAME:
            if wrong := problem(BY_NAME[key], value):
                found.append(f"{key}: {wrong}")
        elif key in CHOICES:
            names = [name for name, _ in CHOICES[key]]
            if value not in names:
                found.append(f"{key}: {value!r} is none of {', '.join(names)}.")
        elif key in {"description", "parent"}:
            if value is not None and not isinstance(value, str):
                found.append(f"{key}: {value!r} is not text.")
        elif key == "model_options":
            found += [f"model_options: {wrong}" for wrong in model_options.problems(value or {})]
        elif key not in {"name", "tags"}:
            found.append(f"{key}: is not a known key; look for a spelling mistake.")
    return found
