"""Questions about profiles and the machine they are for."""

import json
from dataclasses import dataclass
from typing import Any

import psutil
import redis
from django.conf import settings

from tuning import model_options
from tuning.fields import FIELDS, Values
from tuning.gateway_form import Machine, gateway_form, limits_form
from tuning.hardware import Gpu, Hardware
from tuning.inheritance import Effective, InheritanceError, check_tree, effective, lineage
from tuning.model_options import ModelOptions
from tuning.models import Activation, Profile

LAST_SAMPLE = "aicleaner:live:last"  # written by the collector each second


@dataclass(frozen=True)
class Resolved:
    """A profile with its effective values and where each is from."""

    profile: Profile
    fields: dict[str, Effective]
    models: dict[str, dict[str, Effective]]  # by pattern, the most specific first

    @property
    def values(self) -> Values:
        return {name: each.value for name, each in self.fields.items()}

    @property
    def sources(self) -> dict[str, str]:
        return {name: each.source for name, each in self.fields.items()}

    @property
    def model_options(self) -> ModelOptions:
        return {
            pattern: {option: each.value for option, each in options.items()}
            for pattern, options in self.models.items()
        }


def defaults() -> Values:
    """What a profile leaves open, from config.yaml and features of the product."""
    config = settings.CONFIG
    resources = config.resource_management
    return {
        "temperature": 0.1,
        "top_p": 0.9,
        "gpu": config.gpu_acceleration.enabled,
        "cpu_percent": resources.cpu_limit_percent,
        "memory_optimization": resources.auto_cleanup,
        "memory_mb": resources.memory_limit_mb,
        "gpu_memory_percent": round(config.gpu_acceleration.memory_fraction * 100, 6),
        "cache_ttl_min": config.caching.cache_ttl_minutes,
        "max_loss": config.quantization.max_loss,
    }


def all_defaults() -> Values:
    """Of every field; None where nothing sets one."""
    return {field.name: defaults().get(field.name) for field in FIELDS}


def parents() -> dict[str, str | None]:
    return dict(Profile.objects.values_list("name", "parent__name"))


def parent_problem(name: str, parent: str | None) -> str | None:
    """What is wrong with this parent for the profile `name`, or None."""
    try:
        check_tree(parents() | {name: parent})
    except InheritanceError as error:
        return str(error)
    return None


def inherited(profile: Profile | None) -> dict[str, Effective]:
    """What each field of the profile is while it is left open: its parent's, or the default."""
    if profile is None or profile.parent is None:
        return effective([], defaults())
    return resolve_all()[profile.parent.name].fields


def resolve_all() -> dict[str, Resolved]:
    """Every profile by name, in two queries."""
    found = Profile.objects.select_related("parent").prefetch_related("model_options")
    rows = {profile.name: profile for profile in found}
    parent_of = {name: row.parent.name if row.parent else None for name, row in rows.items()}
    own = {name: row.own_values() for name, row in rows.items()}
    models = {name: row.own_model_options() for name, row in rows.items()}
    lines = {name: lineage(name, parent_of) for name in rows}
    base = defaults()
    return {
        name: Resolved(
            row,
            effective([(each, own[each]) for each in lines[name]], base),
            model_options.effective([(each, models[each]) for each in lines[name]]),
        )
        for name, row in rows.items()
    }


def activation_in_use() -> Activation | None:
    """None: no profile was ever put to use, or all of it is undone. One without a profile name: switched off."""
    return Activation.objects.filter(undone_at=None).select_related("by", "profile").first()


def hardware() -> Hardware:
    """This machine, from the collector's newest sample; without one, what can be read here."""
    sample, note = _last_sample()
    state = sample.get("state") or {}
    gpus = None
    if sample:
        gpus = tuple(
            Gpu(str(gpu.get("name") or gpu.get("vendor") or "GPU"), _gpu_memory(sample["v"], gpu["index"]))
            for gpu in state.get("gpus") or []
        )
        note = str(state.get("gpu_reason") or "")
    threads = psutil.cpu_count() or 1
    return Hardware(
        cpu=(state.get("cpu") or {}).get("model"),
        threads=threads,
        cores=psutil.cpu_count(logical=False) or threads,
        memory_bytes=psutil.virtual_memory().total,
        gpus=gpus,
        gpu_note=note,
    )


def _last_sample() -> tuple[dict[str, Any], str]:
    """(sample, why there is none)."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        raw: Any = client.get(LAST_SAMPLE)
    except redis.RedisError:
        return {}, "Valkey is away"
    finally:
        client.close()
    return (json.loads(raw), "") if raw else ({}, "the collector does not run")


def _gpu_memory(values: dict[str, float | None], index: int) -> int | None:
    found = values.get(f"gpu_memory_total_bytes{{gpu={index}}}")
    return None if found is None else int(found)


def gateway_state() -> dict[str, Any]:
    """What the gateway is to use now, as it takes it (inference.gateway.profile.Profiles.take)."""
    found = hardware()
    machine = Machine(found.threads, found.cores, found.gpu_memory_bytes)
    current = activation_in_use()
    active = None
    if current is not None and current.profile_name:
        # A field that is younger than the activation has its default.
        values = {name: current.values.get(name, default) for name, default in all_defaults().items()}
        active = gateway_form(current.profile_name, values, machine, current.model_options)
    profiles = [
        gateway_form(name, each.values, machine, each.model_options) for name, each in resolve_all().items()
    ]
    return {"active": active, "profiles": profiles, "none": limits_form(all_defaults(), machine)}
