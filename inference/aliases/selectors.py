"""Questions about aliases."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Max

from inference.models import AliasChange, Engine


def in_force() -> list[AliasChange]:
    """The newest change of each name that stands for another model now, or has a cloud for when its own fails."""
    newest = AliasChange.objects.values("name").annotate(newest=Max("id")).values("newest")
    return list(AliasChange.objects.filter(pk__in=newest).exclude(after="", cloud="").order_by("name"))


def newest_of(name: str) -> AliasChange | None:
    return AliasChange.objects.filter(name=name).first()


def newest_by_name(names: Iterable[str]) -> dict[str, AliasChange]:
    """The last decision about each name, whatever it was."""
    newest = AliasChange.objects.filter(name__in=list(names)).values("name").annotate(newest=Max("id"))
    found = AliasChange.objects.filter(pk__in=newest.values("newest"))
    return {each.name: each for each in found}


def target_of(name: str) -> str:
    """What answers for `name`; empty: the model of that name."""
    found = newest_of(name)
    return found.after if found else ""


def gateway_state() -> dict[str, Any]:
    """For inference.gateway.aliases."""
    clouds = set(Engine.objects.filter(enabled=True).values_list("name", flat=True))
    now = in_force()
    return {
        "aliases": {each.name: each.after for each in now if each.after},
        "fallbacks": {
            each.name: {"cloud": each.cloud, "model": each.cloud_model, **each.conditions}
            for each in now
            if each.cloud in clouds
        },
    }
