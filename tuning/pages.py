"""What the pages show: rows in words, ready for the templates."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from inference.aliases import selectors as aliases
from inference.levels import LABELS
from inference.proposals.services import Step as ProposedStep
from inference.proposals.services import in_work
from tuning import selectors
from tuning.fields import BY_NAME, CATEGORIES, FIELDS, GROUPS, Field, Values, number, shown
from tuning.hardware import GIB, Hardware, Verdict, judge
from tuning.inheritance import DEFAULT, differences
from tuning.model_options import OPTIONS, flat
from tuning.models import Activation, Profile, ProfileVersion
from tuning.selectors import Resolved
from tuning.steps import Line
from tuning.variants import Outlook, steps

KEY_FIELDS = (
    "context",
    "batch",
    "num_predict",
    "temperature",
    "memory_mb",
    "cpu_percent",
    "cache",
    "quantization",
)
HISTORY = 20


@dataclass(frozen=True)
class Row:
    """One field of one profile. `source`: own, a profile's name, or default."""

    field: Field
    text: str
    source: str
    parent: str  # the profile it comes from, when it is another one


@dataclass(frozen=True)
class VersionRow:
    """`changes`: against the version before; `back`: what restoring it would change now."""

    version: ProfileVersion
    changes: list[tuple[str, str, str]]
    back: list[tuple[str, str, str]]


def rows(resolved: Resolved) -> list[tuple[str, list[Row]]]:
    """By group, in the order of the table."""
    found = {field.name: _row(field, resolved) for field in FIELDS}
    return [(group, [row for row in found.values() if row.field.group == group]) for group in GROUPS]


def _row(field: Field, resolved: Resolved) -> Row:
    each = resolved.fields[field.name]
    own = each.source == resolved.profile.name
    source = "own" if own else each.source
    if each.value is None:
        source = ""
    parent = "" if own or each.source == DEFAULT else each.source
    return Row(field, shown(field, each.value), source, parent)


def model_rows(resolved: Resolved) -> list[tuple[str, list[tuple[Field, str, str]]]]:
    """(pattern, [(option, value, the profile it comes from, when it is another one)]), the most specific first."""
    own = resolved.profile.name
    return [
        (
            pattern,
            [
                (OPTIONS[option], number(each.value), "" if each.source == own else each.source)
                for option, each in options.items()
            ],
        )
        for pattern, options in resolved.models.items()
    ]


@dataclass(frozen=True)
class VariantRow:
    """A model and what the profile asks of it. `answers`: what answers for it now, if not itself; `by`: who decided that."""

    line: Line
    answers: str
    by: str
    is_asked: bool  # what answers is what the profile asks for
    steps: list[ProposedStep]
    is_worked_on: bool  # by a job


def variant_rows(outlook: Outlook) -> list[VariantRow]:
    """Of the models that the profile says something about, those with something to do first."""
    in_force = {each.name: each for each in aliases.in_force()}
    worked_on = in_work()
    todo: dict[tuple[str, str], list[ProposedStep]] = defaultdict(list)
    for step in steps(outlook):
        todo[step.engine_kind, step.model].append(step)
    found = []
    for line in outlook.lines:
        change = in_force.get(line.model.name)
        answers = change.after if change else ""
        key = line.model.engine_kind, line.model.name
        who, is_asked = change.who if change else "", answers == line.target
        row = VariantRow(line, answers, who, is_asked, todo[key], key in worked_on)
        says = line.words and line.model.writes and not line.model.is_made
        if says or row.steps or answers:
            found.append(row)
    return sorted(found, key=lambda row: (not row.steps, row.line.model.is_made, row.line.model.name))


def wish_notes(values: Values) -> list[str]:
    """What config.yaml keeps the profile from."""
    q, c = settings.CONFIG.quantization, settings.CONFIG.compression
    level, packing = values["quantization"], values["compression"]
    notes = []
    if level not in {None, "none"} and not q.enabled:
        notes.append("config.yaml switches quantization off (quantization.enabled).")
    elif level not in {None, "none", *q.levels}:
        notes.append(f"config.yaml does not offer {LABELS.get(level, level)} (quantization.levels).")
    if packing not in {None, "none"} and not c.enabled:
        notes.append("config.yaml switches compression off (compression.enabled).")
    return notes


def key_values(resolved: Resolved) -> list[tuple[Field, str, bool]]:
    """(field, text without its unit, whether it is inherited) of KEY_FIELDS; the cache with its time."""
    found = []
    for name in KEY_FIELDS:
        field, each = BY_NAME[name], resolved.fields[name]
        text = "open" if each.value is None else shown(field, each.value).removesuffix(field.unit).strip()
        if name == "cache" and each.value:
            text = shown(BY_NAME["cache_ttl_min"], resolved.values["cache_ttl_min"])
        found.append((field, text, each.source != resolved.profile.name))
    return found


def list_page() -> dict[str, Any]:
    resolved = selectors.resolve_all()
    hardware = selectors.hardware()
    verdict = judge(hardware)
    return {
        "categories": [
            (label, [(each, key_values(each)) for each in resolved.values() if each.profile.category == key])
            for key, label in CATEGORIES
        ],
        "columns": [BY_NAME[name] for name in KEY_FIELDS],
        "hardware": hardware_facts(hardware),
        "verdict": verdict,
        "recommended": recommended(verdict, resolved),
        "current": selectors.activation_in_use(),
        "history": Activation.objects.select_related("by", "undone_by", "profile")[:HISTORY],
    }


def recommended(verdict: Verdict, resolved: dict[str, Resolved]) -> Profile | None:
    """The shipped profile of the machine's class; None where somebody took it away."""
    found = resolved.get(verdict.profile)
    return found.profile if found else None


def hardware_facts(hardware: Hardware) -> list[tuple[str, str]]:
    memory = f"{hardware.memory_bytes / GIB:.1f} GiB"
    cpu = f"{hardware.cpu or 'model unknown'}, {hardware.cores} cores, {hardware.threads} threads"
    if hardware.gpus is None:
        gpu = f"unknown: {hardware.gpu_note}"
    elif hardware.gpus:
        gpu = "; ".join(
            f"{each.name}, {each.memory_bytes / GIB:.0f} GiB"
            if each.memory_bytes
            else f"{each.name}, memory unknown"
            for each in hardware.gpus
        )
    else:
        gpu = f"none found ({hardware.gpu_note})" if hardware.gpu_note else "none found"
    return [("CPU", cpu), ("Memory", memory), ("GPU", gpu)]


def version_rows(profile: Profile) -> list[VersionRow]:
    """Newest first."""
    versions = list(profile.versions.select_related("by"))
    present = profile.snapshot()
    found = []
    for place, version in enumerate(versions):
        before = versions[place + 1].values if place + 1 < len(versions) else None
        changes = [] if before is None else in_words(before, version.values)
        found.append(VersionRow(version, changes, in_words(present, version.values)))
    return found


def in_words(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(label, before, after) of what differs."""
    models = [flat(each.get("model_options", {})) for each in (before, after)]
    return [
        *(
            (_label(key), _text(key, old), _text(key, new))
            for key, old, new in differences(before, after)
            if key != "model_options"
        ),
        *((key, old or "left open", new or "left open") for key, old, new in differences(*models)),
    ]


def _label(key: str) -> str:
    return BY_NAME[key].label if key in BY_NAME else key.replace("_", " ").capitalize()


def _text(key: str, value: Any) -> str:
    if value is None or value in ("", []):
        return "left open" if key in BY_NAME else "none"
    if key in BY_NAME:
        return shown(BY_NAME[key], value)
    return ", ".join(value) if isinstance(value, list) else str(value)
