"""Writes of the aliases."""

from dataclasses import asdict, dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from inference import events
from inference.aliases import selectors
from inference.errors import NotAllowedError
from inference.gateway.pushed import ALIASES
from inference.models import AliasChange, DecidedBy
from inference.names import full_name
from inference.pushing import Told, log_delivery, push


@dataclass(frozen=True)
class Cloud:
    """What helps out, and when, beside the failure of the local engine: see inference.models.AliasChange."""

    cloud: str = ""
    cloud_model: str = ""
    on_queue: int | None = None
    on_pressure: str = ""
    first_byte_s: float | None = None


NO_CLOUD = Cloud()


def set_alias(
    name: str,
    target: str,
    *,
    who: str,
    user: User | None,
    now: datetime,
    decided_by: DecidedBy = DecidedBy.PERSON,
    told: Told = log_delivery,
    cloud: Cloud | None = None,
) -> AliasChange:
    """From the next request on `target` answers for `name`; an empty one gives the name back to its own model. `cloud`: None
    leaves it as it is. Raises NotAllowedError for a chain or a circle of names, and where nothing would change."""
    name, target = full_name(name), full_name(target) if target else ""
    with transaction.atomic():
        newest = selectors.newest_of(name)
        before = newest.after if newest else ""
        had = cloud_of(newest)
        cloud = had if cloud is None else cloud
        if target == name:
            target = ""
        if before == target and cloud == had:
            raise NotAllowedError(f"{target or 'The model itself'} answers for {name} already.")
        if target:
            others = {
                each.name: each.after for each in selectors.in_force() if each.name != name and each.after
            }
            if target in others:
                raise NotAllowedError(f"{target} stands for {others[target]} itself: choose that one.")
            if name in others.values():
                by = next(other for other, after in others.items() if after == name)
                raise NotAllowedError(f"{name} answers for {by}: undo that first.")
        change = AliasChange.objects.create(
            name=name,
            before=before,
            after=target,
            decided_by=decided_by,
            who=who,
            user=user,
            at=now,
            **asdict(cloud),
        )
        helped = f", and {cloud.cloud_model} of {cloud.cloud} when that fails" if cloud.cloud else ""
        events.note("model", f"{name} is answered by {target or 'itself'}{helped} ({who})")
        events.tell("variant", change.pk)
        events.tell("engine", 0)
        transaction.on_commit(lambda: told(push(ALIASES, selectors.gateway_state)))
    return change


def cloud_of(change: AliasChange | None) -> Cloud:
    if change is None:
        return NO_CLOUD
    return Cloud(change.cloud, change.cloud_model, **change.conditions)


def undo(
    change: AliasChange, *, who: str, user: User | None, now: datetime, told: Told = log_delivery
) -> AliasChange:
    """What answered before `change` answers again. Raises NotAllowedError when something has been decided since."""
    newest = selectors.newest_of(change.name)
    if newest != change:
        raise NotAllowedError(f"{change.name} was changed since: look at what is in force now.")
    earlier = AliasChange.objects.filter(name=change.name, pk__lt=change.pk).first()
    return set_alias(
        change.name, change.before, who=who, user=user, now=now, told=told, cloud=cloud_of(earlier)
    )
