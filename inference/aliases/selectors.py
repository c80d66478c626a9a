"""Questions about aliases."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Max

from inference.models import AliasChange


def in_force() -> list[AliasChange]:
    """The newest change of each name that stands for another model now."""
    newest = AliasChange.objects.values("name").annotate(newest=Max("id")).values("newest")
    return list(AliasChange.objects.filter(pk__in=newest).exclude(after="").order_by("name"))


def newest_of(names: Iterable[str]) -> dict[str, AliasChange]:
    """The last decision about each name, whatever it was."""
    newest = AliasChange.objects.filter(name__in=list(names)).values("name").annotate(newest=Max("id"))
    found = AliasChange.objects.filter(pk__in=newest.values("newest"))
    return {each.name: each for each in found}


def target_of(name: str) -> str:
    """What answers for `name`; empty: the model of that name."""
    found = AliasChange.objects.filter(name=name).first()
    return found.after if found else ""


def gateway_state() -> dict[str, Any]:
    """For inference.gateway.aliases."""
    return {"aliases": {each.name: each.after for each in in_force()}}
