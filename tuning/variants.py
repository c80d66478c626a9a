"""What the profile in use asks of models: which variant answers for which, and what is proposed.

tuning/steps.py decides; this asks the engines and the database, and has inference do it."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from inference.aliases import selectors as aliases
from inference.aliases.services import set_alias
from inference.catalogue.memory import memory_state
from inference.catalogue.selectors import Entry, engine_states, entries
from inference.catalogue.services import record_event
from inference.errors import InferenceError
from inference.jobs.selectors import variants
from inference.levels import Form
from inference.models import AliasChange, DecidedBy, ModelAction, ModelArchive, ProposalKind, Variant
from inference.proposals.services import Step as ProposedStep
from inference.proposals.services import in_work
from inference.pushing import Delivery, Told, log_delivery
from tuning import selectors
from tuning.fields import Values
from tuning.models import Activation
from tuning.steps import GB, MIB, Line, Model, Wish, lines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outlook:
    """What is there and what it comes to. `engines`: the kinds that answered."""

    wish: Wish
    lines: list[Line]
    engines: frozenset[str]
    problems: list[str]


def wish_of(name: str, values: Values) -> Wish:
    """Of a profile by its effective values; `name` "": of config.yaml alone."""
    config = settings.CONFIG
    q, c = config.quantization, config.compression
    level, packing = values.get("quantization"), values.get("compression")
    asked, by = level or q.default_level, f"profile {name}" if name else "config.yaml"
    kind = packing or c.default_type
    return Wish(
        by=by,
        max_loss=values.get("max_loss") or q.max_loss,
        level=asked if q.enabled and asked in q.levels else "",
        every=bool(level),
        large_bytes=q.memory_threshold_mb * MIB,
        prunes=c.enabled and kind == "pruning",
        prune_above_bytes=0 if packing else c.size_threshold_gb * GB,
        packing=kind if c.enabled and kind in {"gzip", "zstd"} else "",
        pack_above_bytes=0 if packing else c.size_threshold_gb * GB,
        cold_after=timedelta(days=c.cold_after_days),
    )


def current_wish() -> tuple[Wish, Activation | None]:
    current = selectors.activation_in_use()
    if current is None or not current.profile_name:
        return wish_of("", {}), current
    return wish_of(current.profile_name, current.values), current


def look(wish: Wish, *, now: datetime, pressed: str = "") -> Outlook:
    """Asks the engines, all at once and for some seconds at most."""
    states = engine_states()
    found = entries(states, memory_state(), now)
    rows = [each for each in variants() if _is_there(each, found)]
    made = {(each.engine_kind, each.name) for each in rows if each.maker}
    packed = set(
        ModelArchive.objects.filter(state=ModelArchive.State.PRESENT).values_list("name", "model_digest")
    )
    forms: dict[tuple[str, str], list[Form]] = defaultdict(list)
    for each in rows:
        forms[each.engine_kind, each.source].append(_form(each))
    models = [_model(each, made, packed) for each in found]
    return Outlook(
        wish,
        lines(models, forms, wish, pressed=pressed, now=now),
        frozenset(each.engine.name for each in states if not each.problem),
        [each.problem for each in states if each.problem],
    )


def _is_there(variant: Variant, found: Iterable[Entry]) -> bool:
    """Both as they were when they were measured: a name may stand for another file since."""
    digests = {(each.engine.name, each.name): each.digest for each in found}
    kind = variant.engine_kind
    return (
        digests.get((kind, variant.name)) == variant.digest
        and digests.get((kind, variant.source)) == variant.source_digest
    )


def _form(variant: Variant) -> Form:
    return Form(
        variant.name,
        variant.quantization,
        variant.measure("quality", "kl", "value"),
        searched=variant.measure("dynamic") is not None,
        pruned=variant.measure("pruning") is not None,
        distilled=variant.measure("distillation") is not None,
    )


def _model(entry: Entry, made: set[tuple[str, str]], packed: set[tuple[str, str]]) -> Model:
    return Model(
        entry.engine.name,
        entry.name,
        entry.digest,
        entry.quantization,
        entry.size_bytes,
        writes=not entry.capabilities or "completion" in entry.capabilities,
        loaded_bytes=entry.loaded.size_bytes if entry.loaded else None,
        used_at=entry.use.last_at,
        modified_at=entry.modified_at,
        is_archived=(entry.name, entry.digest) in packed,
        is_made=entry.key in made,
    )


# --- which variant answers --------------------------------------------------------------------------------


def follow(*, now: datetime, told: Told = log_delivery) -> None:
    """Have the variants answer that the profile in use asks for, and take back what an earlier one had put in place."""
    wish, current = current_wish()
    placed = [each for each in aliases.in_force() if each.decided_by == DecidedBy.PROFILE]
    if not wish.is_for_all and not placed:
        return
    outlook = look(wish, now=now)
    put_in_place(outlook, current, now=now, told=told)


def put_in_place(
    outlook: Outlook, current: Activation | None, *, now: datetime, told: Told = log_delivery
) -> None:
    """What a person decided since the profile was put to use stays, and so does what a person lets answer."""
    wish = outlook.wish
    placed = {each.name: each for each in aliases.in_force() if each.decided_by == DecidedBy.PROFILE}
    wanted: dict[str, Line] = {}
    for line in outlook.lines:
        if line.every and line.target and settings.CONFIG.quantization.auto_select:
            wanted.setdefault(line.model.name, line)
    kinds = dict(
        Variant.objects.filter(name__in=[each.after for each in placed.values()]).values_list(
            "name", "engine_kind"
        )
    )
    for name, change in placed.items():
        unknown = kinds.get(change.after, "") not in outlook.engines and wish.is_for_all
        if name not in wanted and not unknown:
            _decide(name, "", kinds.get(change.after, ""), wish, f"{wish.by} asks for no variant", now, told)
    decided = aliases.newest_by_name(wanted)
    for name, line in wanted.items():
        if not _is_a_person_s(decided.get(name), current):
            _decide(name, line.target, line.model.engine_kind, wish, line.words, now, told)


def _is_a_person_s(change: AliasChange | None, current: Activation | None) -> bool:
    if change is None or change.decided_by == DecidedBy.PROFILE:
        return False
    return bool(change.after) or (current is not None and change.at >= current.at)


def _decide(name: str, target: str, kind: str, wish: Wish, why: str, now: datetime, told: Told) -> None:
    if aliases.target_of(name) == target:
        return

    def only_trouble(delivery: Delivery) -> None:  # that all is well was said of the profile
        if not delivery.ok:
            told(delivery)

    decided: dict[str, Any] = {"who": wish.by, "user": None, "decided_by": DecidedBy.PROFILE}
    try:
        set_alias(name, target, now=now, told=only_trouble, **decided)
    except InferenceError as error:  # a chain of names
        log.info("%s: %s", name, error)
        return
    words = f"{target} answers for it: {why}" if target else f"it answers for itself again: {why}"
    if kind:
        record_event(ModelAction.USE, kind, name, who=wish.by, now=now, detail=words, by_itself=True)


# --- what is proposed -------------------------------------------------------------------------------------


def steps(outlook: Outlook) -> list[ProposedStep]:
    """In the order in which they would be done: what the profile asks first, then the largest model first."""
    digests = {(each.model.engine_kind, each.model.name): each.model for each in outlook.lines}
    answered = {each.name for each in aliases.in_force()}
    stands_in = {each.after for each in aliases.in_force()}
    worked_on = in_work()
    found = []
    for line in sorted(outlook.lines, key=lambda each: (not each.every, -each.model.takes_bytes)):
        model = line.model
        for step in line.steps:
            of = digests.get((model.engine_kind, step.model))
            in_use = model.name in answered or model.name in stands_in
            if of is None or (of.engine_kind, of.name) in worked_on:
                continue
            if in_use and (step.kind == "archive" or not line.every):
                continue  # a smaller one answers for it already, or it is needed
            found.append(_proposed(of, step.kind, step.what, step.reason, step.expected_bytes, outlook.wish))
        by_itself = line.every and settings.CONFIG.quantization.auto_select
        if line.target and not by_itself and model.name not in answered:
            made = digests.get((model.engine_kind, line.target))
            size = made.size_bytes if made else None
            found.append(_proposed(model, "use", line.target, line.words, size, outlook.wish))
    return found


def _proposed(
    model: Model, kind: str, what: str, reason: str, expected: int | None, wish: Wish
) -> ProposedStep:
    return ProposedStep(
        model.engine_kind,
        model.name,
        model.digest,
        ProposalKind(kind),
        what,
        reason,
        model.size_bytes,
        expected,
        wish.max_loss,
    )
