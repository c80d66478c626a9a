"""Writes of the aliases."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from inference import events
from inference.aliases import selectors
from inference.errors import NotAllowedError
from inference.gateway.pushed import ALIASES
from inference.models import AliasChange
from inference.names import full_name
from inference.pushing import Told, log_delivery, push


def set_alias(
    name: str, target: str, *, who: str, user: User | None, now: datetime, told: Told = log_delivery
) -> AliasChange:
    """From the next request on `target` answers for `name`; an empty one gives the name back to its own model. Raises
    NotAllowedError for a chain or a circle of names, and where nothing would change."""
    name, target = full_name(name), full_name(target) if target else ""
    with transaction.atomic():
        before = selectors.target_of(name)
        if target == name:
            target = ""
        if before == target:
            raise NotAllowedError(f"{target or 'The model itself'} answers for {name} already.")
        if target:
            others = {each.name: each.after for each in selectors.in_force() if each.name != name}
            if target in others:
                raise NotAllowedError(f"{target} stands for {others[target]} itself: choose that one.")
            if name in others.values():
                by = next(other for other, after in others.items() if after == name)
                raise NotAllowedError(f"{name} answers for {by}: undo that first.")
        change = AliasChange.objects.create(
            name=name, before=before, after=target, who=who, user=user, at=now
        )
        events.note("model", f"{name} is answered by {target or 'itself'} ({who})")
        events.tell("variant", change.pk)
        transaction.on_commit(lambda: told(push(ALIASES, selectors.gateway_state)))
    return change


def undo(
    change: AliasChange, *, who: str, user: User | None, now: datetime, told: Told = log_delivery
) -> AliasChange:
    """What answered before `change` answers again. Raises NotAllowedError when something has been decided since."""
    newest = AliasChange.objects.filter(name=change.name).first()
    if newest != change:
        raise NotAllowedError(f"{change.name} was changed since: look at what is in force now.")
    return set_alias(change.name, change.before, who=who, user=user, now=now, told=told)
