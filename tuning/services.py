"""Writes of the tuning app. Each change of a profile leaves a version and reaches the gateway before the caller goes on."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from inference.gateway.pushed import PROFILES
from inference.pushing import Told, log_delivery, push
from monitoring import news
from monitoring.alerts.services import apply_thresholds
from monitoring.services import record_event
from tuning import selectors, variants
from tuning.fields import BY_NAME, FIELDS
from tuning.inheritance import DEFAULT, differences
from tuning.model_options import ModelOptions, normal, normalized, problems
from tuning.models import NONE, Activation, ModelOption, Profile, ProfileVersion
from tuning.predefined import BY_NAME as PREDEFINED
from tuning.selectors import Resolved

Person = User | None  # None: a command or the product itself


class TuningError(Exception):
    """What was asked can't be done; the text says why and what to do."""


# --- profiles --------------------------------------------------------------------------------------------


def save_profile(
    profile: Profile,
    *,
    by: Person,
    note: str = "",
    model_options: ModelOptions | None = None,
    told: Told = log_delivery,
) -> ProfileVersion | None:
    """Check, save, keep a version (None: nothing changed). If it bears on the profile in use, that is put to use anew.
    `model_options`: all of them; None leaves them as they are.

    Raises ValidationError by field. `told` hears after the commit what the gateway did."""
    with transaction.atomic():
        version = _save(profile, by=by, note=note, model_options=model_options)
        if version is not None:
            transaction.on_commit(lambda: _hand_over(told))
    return version


def set_model_option(
    profile: Profile,
    model: str,
    option: str,
    value: float,
    *,
    by: Person,
    note: str,
    told: Told = log_delivery,
) -> ProfileVersion | None:
    """For that model alone; the rest of the profile stays. Raises ValidationError."""
    models = profile.own_model_options()
    models.setdefault(normal(model), {})[option] = value
    return save_profile(profile, by=by, note=note, model_options=models, told=told)


def _save(
    profile: Profile, *, by: Person, note: str, model_options: ModelOptions | None = None
) -> ProfileVersion | None:
    with transaction.atomic():
        if profile.pk:  # two who save at a time: the second numbers its version after the first's
            Profile.objects.select_for_update().get(pk=profile.pk)
        _check(profile)
        models = profile.own_model_options() if model_options is None else model_options
        if wrong := problems(models):
            raise ValidationError({"model_options": wrong})
        models = normalized(models)
        newest = profile.versions.first() if profile.pk else None
        snapshot = profile.snapshot(models)
        if newest is not None and not differences(newest.values, snapshot):
            return None
        profile.version = newest.number + 1 if newest is not None else 1
        profile.save()
        _set_model_options(profile, models)
        now = timezone.now()
        version = ProfileVersion.objects.create(
            profile=profile,
            number=profile.version,
            values=snapshot,
            at=now,
            by=by,
            note=note or _what_changed(newest, snapshot),
        )
        _renew_activation(profile, by=by, now=now)
        news.tell("profile", profile.name)
    return version


def _set_model_options(profile: Profile, models: ModelOptions) -> None:
    if models == profile.own_model_options():
        return
    ModelOption.objects.filter(profile=profile).delete()
    ModelOption.objects.bulk_create(
        ModelOption(profile=profile, pattern=pattern, option=option, value=value)
        for pattern, options in models.items()
        for option, value in options.items()
    )


def _check(profile: Profile) -> None:
    profile.full_clean()
    wrong = selectors.parent_problem(profile.name, profile.parent.name if profile.parent else None)
    if wrong is not None:
        raise ValidationError({"parent": wrong})


def _what_changed(before: ProfileVersion | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    return "changed " + ", ".join(key for key, _, _ in differences(before.values, after))[:190]


def restore_version(
    profile: Profile, number: int, *, by: Person, told: Told = log_delivery
) -> ProfileVersion | None:
    """Make the profile what it was at version `number`, as a new version. Raises TuningError, ValidationError."""
    version = profile.versions.filter(number=number).first()
    if version is None:
        raise TuningError(f"{profile.name} has no version {number}; its newest is {profile.version}.")
    values = dict(version.values)
    parent = values.pop("parent")
    profile.parent = None if parent is None else Profile.objects.filter(name=parent).first()
    if parent is not None and profile.parent is None:
        raise TuningError(
            f"The parent of version {number}, {parent}, is gone: make it again, or restore another."
        )
    models = values.pop("model_options", {})
    _set(profile, values)
    note = f"restored version {number}"
    return save_profile(profile, by=by, note=note, model_options=models, told=told)


def restore_shipped(profile: Profile, *, by: Person, told: Told = log_delivery) -> ProfileVersion | None:
    """Make a predefined profile what it came as, as a new version. Raises TuningError."""
    shipped = PREDEFINED.get(profile.name)
    if shipped is None or not profile.predefined:
        raise TuningError(f"{profile.name} is not one of the shipped profiles.")
    profile.parent = None
    _set(profile, shipped_values(profile.name))
    return save_profile(profile, by=by, note="restored shipped values", model_options={}, told=told)


def shipped_values(name: str) -> dict[str, Any]:
    """All that a version holds, but the parent."""
    shipped = PREDEFINED[name]
    return {
        "description": shipped.description,
        "category": shipped.category,
        "target_hardware": shipped.target_hardware,
        "target_use": shipped.target_use,
        "tags": list(shipped.tags),
        **{field.name: shipped.values.get(field.name) for field in FIELDS},
    }


def import_profiles(
    snapshots: dict[str, dict[str, Any]], *, replace: bool, by: Person, told: Told = log_delivery
) -> dict[str, list[str]]:
    """Create, and with `replace` change, the profiles named; all of them or none. Names by what happened to them.

    Raises TuningError, and ValidationError by `NAME: field`."""
    there = set(Profile.objects.values_list("name", flat=True))
    if not replace and (known := [name for name in snapshots if name in there]):
        raise TuningError(f"{', '.join(known)} exist already: rename them in the file, or give --replace.")
    result: dict[str, list[str]] = {"created": [], "changed": [], "unchanged": []}
    with transaction.atomic():
        waiting = dict(snapshots)
        while waiting:  # parents first, wherever they stand in the file
            ready = [name for name, values in waiting.items() if values["parent"] not in waiting]
            if not ready:
                raise TuningError(
                    f"{', '.join(waiting)} inherit from each other in a circle: break it in the file."
                )
            for name in ready:
                kind = _import_one(name, waiting.pop(name), by=by)
                result[kind].append(name)
        if result["created"] or result["changed"]:
            transaction.on_commit(lambda: _hand_over(told))
    return result


def _import_one(name: str, values: dict[str, Any], *, by: Person) -> str:
    profile = Profile.objects.filter(name=name).first()
    kind = "created" if profile is None else "changed"
    profile = profile or Profile(name=name)
    own = dict(values)
    parent = own.pop("parent")
    profile.parent = None if parent is None else Profile.objects.filter(name=parent).first()
    if parent is not None and profile.parent is None:
        raise TuningError(f"{name}: parent: there is no profile called {parent}.")
    models = own.pop("model_options", None) or {}
    _set(profile, own)
    try:
        version = _save(profile, by=by, note="imported", model_options=models)
    except ValidationError as error:
        raise ValidationError(
            {f"{name}: {key}": texts for key, texts in error.message_dict.items()}
        ) from error
    return kind if version is not None else "unchanged"


def _set(profile: Profile, values: dict[str, Any]) -> None:
    table = {key: value for key, value in values.items() if key in BY_NAME}
    profile.set_values(table)
    for key in values.keys() - table.keys():
        setattr(profile, key, values[key])


def why_kept(profile: Profile) -> str | None:
    """What keeps a profile from being deleted, with what to do; None when nothing does."""
    current = selectors.activation_in_use()
    if profile.predefined:
        return f"{profile.name} is a shipped profile and stays."
    if current is not None and current.profile_id == profile.pk:
        return f"{profile.name} is in use: put another to use first."
    if heirs := list(profile.children.values_list("name", flat=True)):
        return f"{', '.join(heirs)} inherit from {profile.name}: give them another parent first."
    return None


def delete_profile(profile: Profile, *, told: Told = log_delivery) -> None:
    """Raises TuningError where something keeps it."""
    with transaction.atomic():
        if (why := why_kept(profile)) is not None:
            raise TuningError(why)
        name = profile.name
        profile.delete()
        news.tell("profile", name)
        transaction.on_commit(lambda: _hand_over(told))


def _hand_over(told: Told) -> None:
    """To the gateway, and then the variants that the profile in use asks for."""
    told(push(PROFILES, selectors.gateway_state))
    variants.follow(now=timezone.now(), told=told)


# --- which one is in use ---------------------------------------------------------------------------------


def activate(profile: Profile | None, *, by: Person, note: str = "", told: Told = log_delivery) -> Activation:
    """Put a profile to use from the next request on; None switches all off. `told` hears what the gateway did."""
    with transaction.atomic():
        resolved = None if profile is None else selectors.resolve_all()[profile.name]
        activation = _put_to_use(resolved, by=by, note=note, now=timezone.now())
        transaction.on_commit(lambda: _hand_over(told))
    return activation


def undo(activation: Activation, *, by: Person, told: Told = log_delivery) -> Activation | None:
    """Back to what was in use before `activation`, with the values of then; returns that (None: no profile).

    Raises TuningError when it is not in use any more."""
    with transaction.atomic():
        current = selectors.activation_in_use()
        now = timezone.now()
        is_current = current is not None and current.pk == activation.pk
        row = Activation.objects.filter(pk=activation.pk, undone_at=None)
        if not is_current or not row.update(undone_at=now, undone_by=by):
            raise TuningError(f"{activation.label} is not in use any more: look at what is, then undo that.")
        previous = selectors.activation_in_use()
        label = previous.label if previous is not None else NONE
        _announce(label, f"profile {activation.label} undone: {label}", now)
        _set_alert_thresholds(previous)
        transaction.on_commit(lambda: _hand_over(told))
    return previous


def _put_to_use(resolved: Resolved | None, *, by: Person, note: str, now: datetime) -> Activation:
    previous = Activation.objects.select_for_update().filter(undone_at=None).first()
    profile = resolved.profile if resolved is not None else None
    activation = Activation.objects.create(
        profile=profile,
        profile_name=profile.name if profile is not None else "",
        version=profile.version if profile is not None else None,
        values=resolved.values if resolved is not None else {},
        sources=resolved.sources if resolved is not None else {},
        model_options=resolved.model_options if resolved is not None else {},
        at=now,
        by=by,
        note=note,
        previous=previous,
    )
    _announce(activation.label, f"profile {activation.label}", now)
    _set_alert_thresholds(activation)
    return activation


def _announce(name: str, text: str, now: datetime) -> None:
    at = now.timestamp()
    event = record_event(host=settings.HOST_NAME, at=at, kind="profile", text=text)
    news.tell("event", event.pk, event={"at": at, "kind": event.kind, "text": event.text})
    news.tell("profile", name)


def _renew_activation(changed: Profile, *, by: Person, now: datetime) -> None:
    """The profile in use, or one that it inherits from, was changed: it is put to use with its new values."""
    current = selectors.activation_in_use()
    if current is None or current.profile is None:
        return
    resolved = selectors.resolve_all()[current.profile.name]
    if resolved.values == current.values and resolved.model_options == current.model_options:
        return
    note = "edited" if changed == current.profile else f"edited: {changed.name}"
    _put_to_use(resolved, by=by, note=note, now=now)


def _set_alert_thresholds(activation: Activation | None) -> None:
    """Hand what the profile says of alerts to the default rules; of what it leaves open they keep their own."""
    found = (
        {}
        if activation is None
        else {
            name: activation.values.get(name)
            for name, source in activation.sources.items()
            if source != DEFAULT
        }
    )
    apply_thresholds(
        memory_percent=found.get("alert_memory_percent"),
        cpu_percent=found.get("alert_cpu_percent"),
        for_s=found.get("alert_seconds"),
        note=f"profile {activation.label}" if activation is not None else "no profile",
    )
