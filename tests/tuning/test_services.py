"""Profiles, their versions, and which one is in use; with the real Valkey and gateway."""

import json
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.gateway.profile import Profile as GatewayProfile
from inference.gateway.pushed import PROFILES
from inference.pushing import Delivery, push_if_stale
from monitoring.models import Event, Rule
from tests.inference.gateways import generate
from tests.inference.serving import Server
from tests.product import wait_for
from tuning import selectors, services
from tuning.fields import BY_NAME, FIELDS
from tuning.models import Activation, Profile, ProfileVersion
from tuning.predefined import PREDEFINED
from tuning.services import TuningError

pytestmark = pytest.mark.django_db(transaction=True)


def named(name: str) -> Profile:
    return Profile.objects.get(name=name)


def add(name: str, parent: Profile | None = None, **values: Any) -> Profile:
    profile = Profile(name=name, parent=parent)
    profile.set_values(values)
    services.save_profile(profile, by=None)
    return profile


def in_use() -> str:
    current = selectors.activation_in_use()
    return current.label if current else "none"


# --- profiles and versions --------------------------------------------------------------------------------


def test_the_twelve_are_there_from_the_start_each_with_a_version(valkey_url: str) -> None:
    assert set(Profile.objects.values_list("name", flat=True)) == {each.name for each in PREDEFINED}
    for profile in Profile.objects.all():
        (version,) = profile.versions.all()
        assert (version.number, version.values, version.note) == (1, profile.snapshot(), "shipped")
        profile.full_clean()


def test_a_change_is_a_version_and_the_same_again_is_none(valkey_url: str, admin: User) -> None:
    profile = named("use_case_demo")
    profile.context = 4096
    version = services.save_profile(profile, by=admin)
    assert version is not None
    assert (version.number, version.by, version.note) == (2, admin, "changed context")
    assert services.save_profile(named("use_case_demo"), by=admin) is None
    assert named("use_case_demo").version == 2


def test_an_old_version_and_the_shipped_values_come_back_as_new_ones(valkey_url: str, admin: User) -> None:
    profile = named("use_case_demo")
    before = profile.snapshot()
    profile.context, profile.temperature, profile.tags = 4096, 0.7, ["mine"]
    profile.parent = named("performance_balanced")
    services.save_profile(profile, by=admin)
    changed = profile.snapshot()
    services.restore_version(profile, 1, by=admin)
    assert named("use_case_demo").snapshot() == before
    services.restore_version(named("use_case_demo"), 2, by=admin)
    assert named("use_case_demo").snapshot() == changed
    services.restore_shipped(named("use_case_demo"), by=admin)
    assert named("use_case_demo").snapshot() == before
    notes = list(ProfileVersion.objects.filter(profile=profile).values_list("number", "note"))
    assert notes[:3] == [(5, "restored shipped values"), (4, "restored version 2"), (3, "restored version 1")]


def test_what_can_t_be_restored_is_said(valkey_url: str) -> None:
    with pytest.raises(TuningError, match="has no version 9; its newest is 1"):
        services.restore_version(named("use_case_demo"), 9, by=None)
    own = add("own", parent=add("base"), context=1024)
    with pytest.raises(TuningError, match="not one of the shipped"):
        services.restore_shipped(own, by=None)
    own.parent = None
    services.save_profile(own, by=None)
    services.delete_profile(named("base"))
    with pytest.raises(TuningError, match="parent of version 1, base, is gone"):
        services.restore_version(own, 1, by=None)


def test_effective_values_follow_the_parents_and_the_configuration(valkey_url: str) -> None:
    base = add("base", context=4096, temperature=0.7)
    add("heir", parent=base, temperature=0.2)
    fields = selectors.resolve_all()["heir"].fields
    assert (fields["context"].value, fields["context"].source) == (4096, "base")
    assert (fields["temperature"].value, fields["temperature"].source) == (0.2, "heir")
    assert (fields["memory_mb"].value, fields["memory_mb"].source) == (4096, "default")
    assert (fields["num_predict"].value, fields["num_predict"].source) == (None, "default")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_bad_value_is_refused_by_its_field(field: Any, valkey_url: str) -> None:
    profile = Profile(name="bad")
    profile.set_values({field.name: "nonsense" if field.kind == "choice" else 1e9})
    with pytest.raises(ValidationError) as error:
        services.save_profile(profile, by=None)
    assert set(error.value.message_dict) == {field.name}
    assert not Profile.objects.filter(name="bad").exists()


def test_names_tags_and_parents_are_checked(valkey_url: str) -> None:
    for name, text in (("none", "choose another name"), ("Bad Name", "small letters"), ("", "blank")):
        with pytest.raises(ValidationError) as error:
            services.save_profile(Profile(name=name), by=None)
        assert text in " ".join(error.value.message_dict["name"])
    with pytest.raises(ValidationError) as error:
        services.save_profile(Profile(name="x", tags=[1]), by=None)
    assert "tags" in error.value.message_dict
    first, second = add("first"), add("second")
    second.parent = first
    services.save_profile(second, by=None)
    first.parent = second
    with pytest.raises(ValidationError) as error:
        services.save_profile(first, by=None)
    assert "circle" in " ".join(error.value.message_dict["parent"])


def test_a_line_can_t_grow_too_deep_from_either_end(valkey_url: str) -> None:
    line = [add("p0")]
    for number in range(1, 8):
        line.append(add(f"p{number}", parent=line[-1]))
    with pytest.raises(ValidationError):
        add("p8", parent=line[-1])
    line[0].parent = named("use_case_demo")
    with pytest.raises(ValidationError):
        services.save_profile(line[0], by=None)


def test_what_is_needed_can_t_be_deleted(valkey_url: str) -> None:
    base = add("base")
    heir = add("heir", parent=base)
    for profile, why in ((named("use_case_demo"), "shipped"), (base, "heir inherit from base")):
        with pytest.raises(TuningError, match=why):
            services.delete_profile(profile)
    services.activate(heir, by=None)
    with pytest.raises(TuningError, match="heir is in use"):
        services.delete_profile(heir)
    services.activate(None, by=None)
    services.delete_profile(heir)
    assert Activation.objects.filter(profile_name="heir", profile=None).count() == 1


def test_two_who_save_at_a_time_leave_two_versions(valkey_url: str) -> None:
    one, two = named("use_case_demo"), named("use_case_demo")
    one.context, two.context = 1024, 4096
    services.save_profile(one, by=None)
    services.save_profile(two, by=None)
    assert list(one.versions.values_list("number", flat=True)) == [3, 2, 1]


# --- which one is in use ----------------------------------------------------------------------------------


def test_who_and_when_and_the_way_back(valkey_url: str, admin: User) -> None:
    first = services.activate(named("use_case_demo"), by=admin, note="show on Friday")
    second = services.activate(named("use_case_batch"), by=None)
    assert (first.by, first.note, first.version, second.previous) == (admin, "show on Friday", 1, first)
    assert second.values["context"] == 2048
    assert services.undo(second, by=admin) == first
    assert in_use() == "use_case_demo"
    assert services.undo(first, by=admin) is None
    assert in_use() == "none"
    second.refresh_from_db()
    assert second.undone_by == admin
    texts = list(Event.objects.filter(kind="profile").order_by("id").values_list("text", flat=True))
    assert texts[-2:] == [
        "profile use_case_batch undone: use_case_demo",
        "profile use_case_demo undone: none",
    ]


def test_only_what_is_in_use_can_be_undone_and_once(valkey_url: str) -> None:
    first = services.activate(named("use_case_demo"), by=None)
    second = services.activate(named("use_case_batch"), by=None)
    with pytest.raises(TuningError, match="use_case_demo is not in use any more"):
        services.undo(first, by=None)
    services.undo(second, by=None)
    with pytest.raises(TuningError):
        services.undo(second, by=None)
    assert in_use() == "use_case_demo"


def test_an_edit_of_the_one_in_use_or_its_parent_is_put_to_use_and_can_be_undone(valkey_url: str) -> None:
    base = add("base", context=1024)
    heir = add("heir", parent=base, num_predict=10)
    services.activate(heir, by=None)
    base.context = 2048
    services.save_profile(base, by=None)
    current = selectors.activation_in_use()
    assert current is not None
    assert (current.label, current.note, current.values["context"]) == ("heir", "edited: base", 2048)
    base.num_predict = 99  # heir has its own: nothing changes for it
    services.save_profile(base, by=None)
    assert selectors.activation_in_use() == current
    services.undo(current, by=None)
    state = selectors.gateway_state()
    assert state["active"]["options"]["num_ctx"] == 1024  # as it was then, whatever base is now


class RolledBackError(Exception):
    pass


def activate_and_roll_back(told: list[Delivery]) -> None:
    with transaction.atomic():
        services.activate(named("use_case_demo"), by=None, told=told.append)
        raise RolledBackError


def test_an_activation_that_is_rolled_back_leaves_nothing(gateway: Server) -> None:
    told: list[Delivery] = []
    with pytest.raises(RolledBackError):
        activate_and_roll_back(told)
    assert in_use() == "none"
    assert Activation.objects.count() == Event.objects.filter(kind="profile").count() == len(told) == 0
    assert generate(gateway).headers["x-aicleaner-profile"] == "none"


def test_the_alert_rules_follow_what_the_profile_says_itself(valkey_url: str) -> None:
    def thresholds() -> list[tuple[float, int]]:
        rules = Rule.objects.filter(key__in=("memory", "cpu")).order_by("-key")
        return [(rule.fire_at, rule.for_s) for rule in rules]

    services.activate(None, by=None)
    configured = thresholds()
    low = services.activate(named("hardware_low_end"), by=None)
    assert thresholds() == [(85, 60), (80, 60)]
    services.activate(named("use_case_interactive"), by=None)  # it says nothing of alerts
    assert thresholds() == configured
    names = ("alert_memory_percent", "alert_cpu_percent", "alert_seconds")
    values = selectors.resolve_all()[
        "use_case_interactive"
    ].values  # no threshold is shown that does not hold
    assert [values[name] for name in names] == [None] * 3
    current = selectors.activation_in_use()
    assert current is not None
    services.undo(current, by=None)
    assert thresholds() == [(85, 60), (80, 60)]
    services.undo(low, by=None)
    assert thresholds() == configured


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["use_case_demo", "use_case_batch", "", "undo"]), max_size=8))
def test_undo_walks_back_through_whatever_was_put_to_use(valkey_url: str, steps: list[str]) -> None:
    Activation.objects.all().delete()
    stack: list[str] = []
    for step in steps:
        if step != "undo":
            services.activate(named(step) if step else None, by=None)
            stack.append(step or "none")
        elif stack:
            current = selectors.activation_in_use()
            assert current is not None
            services.undo(current, by=None)
            stack.pop()
        assert in_use() == (stack[-1] if stack else "none")


# --- the gateway ------------------------------------------------------------------------------------------


def test_the_next_request_is_under_the_new_profile(gateway: Server) -> None:
    told: list[Delivery] = []
    for name in ("use_case_demo", "use_case_batch"):
        services.activate(named(name), by=None, told=told.append)
        assert generate(gateway).headers["x-aicleaner-profile"] == name
    profile = named("use_case_batch")
    profile.context = 4096
    services.save_profile(profile, by=None, told=told.append)
    services.activate(None, by=None, told=told.append)
    assert generate(gateway).headers["x-aicleaner-profile"] == "none"
    assert [each.ok for each in told] == [True] * 4


def test_every_profile_reaches_the_gateway_as_it_takes_them(gateway: Server) -> None:
    add("own", context=1024)
    for name in (*(each.name for each in PREDEFINED), "own"):
        answer = generate(gateway, {"x-aicleaner-profile": name})
        assert answer.headers["x-aicleaner-profile"] == name
    state = selectors.gateway_state()
    assert [GatewayProfile(**each).name for each in state["profiles"]][-1] == "own"


def test_within_a_transaction_the_gateway_hears_after_the_commit(gateway: Server) -> None:
    told: list[Delivery] = []
    with transaction.atomic():
        services.activate(named("use_case_demo"), by=None, told=told.append)
        assert told == []
        assert generate(gateway).headers["x-aicleaner-profile"] == "none"
    assert [each.ok for each in told] == [True]
    assert generate(gateway).headers["x-aicleaner-profile"] == "use_case_demo"


def test_without_a_gateway_it_is_saved_and_said(store: redis.Redis) -> None:
    told: list[Delivery] = []
    services.activate(named("use_case_demo"), by=None, told=told.append)
    assert told == [Delivery(False, "Saved, but no gateway runs: it is used as soon as one starts.")]
    assert in_use() == "use_case_demo"


def test_without_valkey_it_is_saved_and_follows_later(
    store: redis.Redis, gateway: Server, settings: Any
) -> None:
    told: list[Delivery] = []
    there, settings.VALKEY_URL = settings.VALKEY_URL, "unix:///nowhere.sock"
    services.activate(named("use_case_demo"), by=None, told=told.append)
    assert not told[0].ok
    assert "Valkey is away" in told[0].text
    settings.VALKEY_URL = there
    assert push_if_stale(PROFILES, selectors.gateway_state)
    assert not push_if_stale(PROFILES, selectors.gateway_state)
    assert generate(gateway).headers["x-aicleaner-profile"] == "use_case_demo"


def test_a_valkey_that_lost_its_state_gets_it_again(store: redis.Redis, gateway: Server) -> None:
    services.activate(named("use_case_demo"), by=None)
    store.delete(PROFILES.key)
    assert push_if_stale(PROFILES, selectors.gateway_state)
    raw: Any = store.get(PROFILES.key)
    assert json.loads(raw)["active"]["name"] == "use_case_demo"


def test_a_gateway_that_does_not_answer_is_waited_for_and_said(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.pushing.CONFIRM_WITHIN_S", 0.1)
    told: list[Delivery] = []
    with store.pubsub() as deaf:  # type: ignore[no-untyped-call]
        deaf.subscribe("aicleaner:profiles:changed")
        wait_for(lambda: deaf.get_message(timeout=1), "subscribed")
        services.activate(named("use_case_demo"), by=None, told=told.append)
    assert told == [Delivery(False, "Saved, but not confirmed: the gateway does not answer.")]


def test_all_fields_of_the_table_are_columns() -> None:
    columns = {field.name for field in Profile._meta.get_fields()}
    assert set(BY_NAME) <= columns
