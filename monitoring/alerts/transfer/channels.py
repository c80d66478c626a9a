"""Channels in the file. Their secrets are never written: a row names those that the channel has, so that the import can say
which it lacks. A file that a person writes may give them."""

from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any

from monitoring.alerts import channel_services
from monitoring.alerts.channel_forms import COMMON, FORMS, ChannelForm
from monitoring.alerts.machine import Severity
from monitoring.alerts.transfer.entries import Entry, File, said, sent
from monitoring.channels import class_of
from monitoring.models import ChannelConfig
from safeguards.sealing import SealError, channel_secrets

NOT_SHOWN = "given, not shown"


def rows() -> list[dict[str, Any]]:
    found = []
    for config in ChannelConfig.objects.all():
        row = _row(config, config.settings)
        try:
            secrets = sorted(channel_secrets.unseal(config.sealed))
        except SealError:  # which it had can't be told any more
            secrets = []
        found.append({**row, "secrets": secrets} if secrets else row)
    return found


def entries(file: File) -> list[Entry]:
    stored = {each.name: each for each in ChannelConfig.objects.all()}
    found = [
        _entry(file, name, where, row, stored.get(name))
        for name, (where, row) in file.named("channels", "channel").items()
    ]
    return [each for each in found if each is not None]


def _row(config: ChannelConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """What differs from the defaults of its kind, in the order of the form."""
    usual = _usual(config.kind)
    values = {**{name: value for name, value in settings.items() if name in usual}, **_common(config)}
    different = {name: value for name, value in values.items() if value != usual[name]}
    return {"name": config.name, "kind": str(config.kind), **different}


def _common(config: ChannelConfig) -> dict[str, Any]:
    times = {
        name: f"{at:%H:%M}" if (at := getattr(config, name)) is not None else None
        for name in ("quiet_from", "quiet_to")
    }
    severity = Severity(config.least_severity).name.lower()
    return {**{name: getattr(config, name) for name in COMMON}, **times, "least_severity": severity}


def _usual(kind: str) -> dict[str, Any]:
    """By field what a row that leaves it out means."""
    form = FORMS[kind]
    own = {name: form.base_fields[name].initial for name in form.own_names()}
    own |= {each.name: each.default for each in fields(class_of(kind)) if each.default is not MISSING}
    secrets = form.secret_names()
    return {
        **{name: value for name, value in own.items() if name not in secrets},
        **_common(ChannelConfig(kind=kind)),
    }


def _entry(
    file: File, name: str, where: str, row: dict[str, Any], before: ChannelConfig | None
) -> Entry | None:
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in FORMS:
        file.say(where, "kind", f"{kind!r} is none of {', '.join(FORMS)}.")
        return None
    if before is not None and before.kind != kind:
        file.say(where, "kind", f"there is one of this name already, a {before.get_kind_display()}.")
        return None
    try:
        stored = channel_secrets.unseal(before.sealed) if before is not None else {}
    except SealError as error:
        file.say(where, "secrets", f"{error}; or leave this channel out of the file.")
        return None
    return _checked(file, where, {**row, "name": name}, before, stored)


def _checked(
    file: File, where: str, row: dict[str, Any], before: ChannelConfig | None, stored: dict[str, str]
) -> Entry | None:
    """By the form of its kind. A secret that it lacks is no mistake: it is off until that is entered."""
    kind = row["kind"]
    usual, secrets = _usual(kind), FORMS[kind].secret_names()
    if not file.knows_fields(where, row, usual, ("name", "kind", "secrets", *secrets)):
        return None
    listed = row.get("secrets") or []
    if not isinstance(listed, list) or not set(map(str, listed)) <= set(secrets):
        file.say(where, "secrets", f"give a list of some of {', '.join(secrets)}.")
        return None
    values = {**usual, **{each: value for each, value in row.items() if each in (*usual, *secrets)}}
    severity = file.severity(where, "least_severity", values["least_severity"])
    if severity is None:
        return None
    config = ChannelConfig.objects.get(pk=before.pk) if before is not None else ChannelConfig(kind=kind)
    data = {**_sent(values), "name": row["name"], "least_severity": severity}
    form = FORMS[kind](data, instance=config, stored=stored)
    given = {each: str(row[each]) for each in secrets if row.get(each)}
    lacking = [each for each in secrets if each not in stored and each not in given]
    lacking = [each for each in lacking if each in form.errors or each in listed]
    if wrong := {each: errors for each, errors in form.errors.items() if each not in lacking}:
        for each, errors in wrong.items():
            file.say(where, each, said(errors))
        return None
    config.enabled = config.enabled and not lacking
    return _compared(form, before, given, lacking)


def _sent(values: dict[str, Any]) -> dict[str, Any]:
    """As the form has them. YAML takes an unquoted 22:00 for a number to the base of 60, that is for minutes."""
    times = {
        name: f"{value // 60:02}:{value % 60:02}"
        for name in ("quiet_from", "quiet_to")
        if isinstance(value := values.get(name), int) and not isinstance(value, bool)
    }
    joined = {name: ", ".join(map(str, value)) for name, value in values.items() if isinstance(value, list)}
    return sent({**values, **times, **joined})


def _compared(
    form: ChannelForm, before: ChannelConfig | None, given: dict[str, str], lacking: list[str]
) -> Entry:
    config, settings = form.instance, form.settings()

    def store(who: str, now: datetime) -> None:
        config.settings = settings
        channel_services.save_channel(config, form.secrets(), who=who, now=now)

    entry = Entry("channel", config.name, store)
    old = _row(before, before.settings) if before is not None else None
    entry.compare(old, _row(config, settings), _usual(config.kind))
    entry.changes += [
        (each, "", NOT_SHOWN) for each, value in given.items() if value != form.stored.get(each)
    ]
    if before is not None:
        entry.status = "changed" if entry.changes else "same"
    if lacking:
        labels = " and ".join(str(form.fields[each].label) for each in lacking)
        entry.notes.append(f"{config.name} is off until you enter on its page: {labels}")
    return entry
