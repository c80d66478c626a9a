"""Pages of escalation policies: who may, what is stored, what bad input gets."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from monitoring.models import AlertStep, ChannelConfig, EscalationPolicy
from tests.monitoring.alerting import Bench, make_rule
from tests.monitoring.receivers import configure
from tests.monitoring.test_channels import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("sam", is_staff=True))
    return client


def channel(name: str) -> ChannelConfig:
    return configure("webhook", {}, {"url": "http://127.0.0.1:9/", "signing_secret": SECRET}, name=name)


def sent(*steps: tuple[Any, list[ChannelConfig], int], **values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "Ops", "group_wait_s": 30}
    found |= {"steps-TOTAL_FORMS": len(steps), "steps-INITIAL_FORMS": 0}
    for place, (after_min, channels, least) in enumerate(steps):
        found |= {
            f"steps-{place}-after_min": after_min,
            f"steps-{place}-channels": [each.pk for each in channels],
            f"steps-{place}-least_severity": least,
        }
    return found | values


def test_only_staff_see_and_change_policies(client: Client) -> None:
    policy = EscalationPolicy.objects.create(name="Ops")
    paths = [
        *("/alerts/escalation/", "/alerts/escalation/new/", "/alerts/escalation/words/"),
        *(f"/alerts/escalation/{policy.pk}/", f"/alerts/escalation/{policy.pk}/delete/"),
    ]
    for path in paths:
        assert client.post(path)["Location"].startswith("/login/"), path
    client.force_login(User.objects.create_user("anna"))
    for path in paths:
        assert client.post(path, sent((0, [channel(path)], 1))).status_code in (403, 405), path
        assert client.get(path).status_code in (403, 405), path
    assert "/alerts/escalation/" not in client.get("/alerts/").content.decode()
    assert [each.name for each in EscalationPolicy.objects.all()] == ["Ops"]


def test_a_policy_is_stored_with_its_steps_and_followed(staff: Client) -> None:
    junior, boss = channel("Junior"), channel("Boss")
    data = sent((0, [junior], 1), (15, [junior, boss], 3), is_default="on")
    assert staff.post("/alerts/escalation/new/", data)["Location"] == "/alerts/escalation/"
    policy = EscalationPolicy.objects.get()
    assert [
        (step.number, step.after_min, step.least_severity, [each.name for each in step.channels.all()])
        for step in policy.steps.all()
    ] == [(1, 0, 1, ["Junior"]), (2, 15, 3, ["Boss", "Junior"])]
    said = staff.get("/alerts/escalation/").content.decode()
    assert (
        "At once: Junior. If nobody has acknowledged it after 15 min: Boss and Junior, of critical alerts only."
        in said
    )
    make_rule()
    Bench().heat(95)
    page = staff.get(f"/alerts/{AlertStep.objects.all()[0].alert_id}/").content.decode()
    assert "Ops, as it was when this fired" in page
    assert page.count("<b>step ") == 2


def test_another_default_policy_takes_the_place_of_the_first(staff: Client) -> None:
    junior = channel("Junior")
    staff.post("/alerts/escalation/new/", sent((0, [junior], 1), is_default="on"))
    staff.post("/alerts/escalation/new/", sent((0, [junior], 1), is_default="on", name="Night"))
    assert list(EscalationPolicy.objects.values_list("name", "is_default")) == [
        ("Night", True),
        ("Ops", False),
    ]
    night = EscalationPolicy.objects.get(name="Night")
    staff.post(f"/alerts/escalation/{night.pk}/", sent((5, [junior], 2), is_default="on", name="Night"))
    night.refresh_from_db()
    assert night.is_default  # saved again, it stays the default one
    assert [each.after_min for each in night.steps.all()] == [5]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": ""}, "This field is required"),
        ({"group_wait_s": "-1"}, "greater than or equal to 0"),
        ({"group_wait_s": "601"}, "less than or equal to 600"),
        ({"steps-0-after_min": ""}, "Give the minutes; 0 is at once."),
        ({"steps-0-after_min": "x"}, "Enter a whole number"),
        ({"steps-0-after_min": "20"}, "The step before comes after 20 min: give no less."),
        ({"steps-1-after_min": "10081"}, "less than or equal to 10080"),
        ({"steps-0-channels": []}, "Choose a channel, or remove the step."),
        ({"steps-0-channels": ["999"]}, "not one of the available choices"),
        ({"steps-0-least_severity": "7"}, "not one of the available choices"),
        ({"steps-TOTAL_FORMS": "0"}, "at least 1 form"),
        ({"steps-TOTAL_FORMS": "x"}, "at least 1 form"),
        ({"steps-TOTAL_FORMS": "3"}, "Give the minutes; 0 is at once."),
    ],
)
def test_a_mistake_is_named_beside_its_field_and_nothing_is_stored(
    staff: Client, changes: dict[str, Any], text: str
) -> None:
    junior = channel("Junior")
    page = staff.post("/alerts/escalation/new/", sent((0, [junior], 1), (15, [junior], 1), **changes))
    assert page.status_code == 200
    assert text in page.content.decode()
    assert not EscalationPolicy.objects.exists()
    words = staff.post("/alerts/escalation/words/", sent((0, [junior], 1), (15, [junior], 1), **changes))
    assert "Not a whole policy yet" in words.content.decode()


@pytest.mark.parametrize("key", ["999", "99999999999999999999999", "x"])
def test_a_channel_or_a_rule_that_is_not_there_is_a_mistake_in_its_field(staff: Client, key: str) -> None:
    data = sent((0, [], 1), **{"steps-0-channels": key})
    answer = staff.post("/alerts/escalation/new/", data)
    assert answer.context["steps"].forms[0].errors["channels"]
    answer = staff.post("/alerts/rules/new/", {"name": "Both", "kind": "composite", "members": key})
    assert answer.context["form"].errors["members"]
    assert not EscalationPolicy.objects.exists()


def test_a_name_that_is_taken_is_said(staff: Client) -> None:
    EscalationPolicy.objects.create(name="Ops")
    page = staff.post("/alerts/escalation/new/", sent((0, [channel("Junior")], 1)))
    assert "Another policy has this name already" in page.content.decode()


def test_a_step_is_added_and_removed_and_what_was_typed_stays(staff: Client) -> None:
    junior = channel("Junior")
    typed = sent((0, [junior], 1), ("abc", [], 2))
    page = staff.post("/alerts/escalation/new/", typed | {"add": "1"}).content.decode()
    assert page.count("<legend>Channels</legend>") == 3
    assert 'value="abc"' in page
    assert 'value="Ops"' in page
    assert 'class="error"' not in page
    page = staff.post("/alerts/escalation/new/", typed | {"remove": "1"}).content.decode()
    assert page.count("<legend>Channels</legend>") == 1
    assert "checked" in page
    assert not EscalationPolicy.objects.exists()


def test_the_preview_says_what_is_typed(staff: Client) -> None:
    page = staff.post("/alerts/escalation/words/", sent((0, [channel("Junior")], 1)))
    assert (
        "The log hears everything. At once: Junior. Fires of one host within 30 s go out as one message;"
        in page.content.decode()
    )


def test_a_deleted_policy_leaves_its_rules(staff: Client) -> None:
    policy = EscalationPolicy.objects.create(name="Ops")
    rule = make_rule(policy=policy)
    path = f"/alerts/escalation/{policy.pk}/delete/"
    assert "Heat will follow the default policy" in staff.get(path).content.decode()
    staff.post(path)
    rule.refresh_from_db()
    assert rule.policy is None


def test_a_rule_chooses_a_policy_the_default_one_or_none(staff: Client) -> None:
    policy = EscalationPolicy.objects.create(name="Ops", is_default=True)
    rule = make_rule()
    path = f"/alerts/rules/{rule.pk}/"
    for chosen, stored in (("none", (None, True)), (str(policy.pk), (policy, False)), ("", (None, False))):
        form = staff.get(path).context["form"]
        values = {name: form[name].value() for name in form.fields}
        data = {
            name: value for name, value in values.items() if value not in (None, "") and value is not False
        }
        answer = staff.post(path, {**data, "policy": chosen})
        assert answer.status_code == 302, answer.context["form"].errors
        rule.refresh_from_db()
        assert (rule.policy, rule.no_policy) == stored
        assert f'<option value="{chosen}" selected' in str(staff.get(path).context["form"]["policy"])
        said = " ".join(staff.get("/alerts/escalation/").content.decode().split())
        assert ("Those that want none:" in said) is (chosen == "none")
    answer = staff.post(path, {**data, "policy": "99"})
    assert "There is no such policy any more" in answer.content.decode()


def test_without_a_channel_the_list_says_what_to_do_first(staff: Client) -> None:
    assert "there is only the log" in staff.get("/alerts/escalation/").content.decode()
