"""Channels, escalation policies, rules and silences as YAML: written, read with every mistake named, and compared with what
is stored before it is taken.

A file says whole entries: what it leaves out is the default. They are known by their names, default rules by `default`;
what the file doesn't name stays. Secrets of channels are never written."""

from datetime import datetime

import yaml
from django.db import transaction

from monitoring.alerts.transfer import channels, policies, rules, silences
from monitoring.alerts.transfer.entries import MOST_CHARS, AlertsFileError, Entry, File


def write(now: datetime, *, whole: bool = True) -> str:
    """All of it, and of silences those that are not over; without channels and policies where it is not `whole`."""
    found = {"channels": channels.rows(), "policies": policies.rows()} if whole else {}
    found |= {"rules": rules.rows(), "silences": silences.rows(now)}
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=110)


def read(text: str, *, who: str, now: datetime) -> list[Entry]:
    """What taking the file would change, in the order in which it can be stored; nothing is changed here. Raises
    AlertsFileError."""
    file = File(text)
    found = [*channels.entries(file), *policies.entries(file), *rules.entries(file)]
    found += silences.entries(file, who, now)
    if not found and not file.problems:
        file.problems.append("the file holds nothing to import.")
    if file.problems:
        raise AlertsFileError(file.problems)
    return found


@transaction.atomic
def take(entries: list[Entry], *, who: str, now: datetime) -> int:
    """Store what `read` found new or changed; returns how many."""
    wanted = [each for each in entries if each.status in ("new", "changed")]
    for entry in wanted:
        entry.store(who, now)
    return len(wanted)


__all__ = ["MOST_CHARS", "AlertsFileError", "Entry", "read", "take", "write"]
