"""Channels and escalation policies as YAML: there and back without their secrets, mistakes, and what a rule says of them."""

from contextlib import suppress
from datetime import date, time
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import channel_services, policy_services, services, transfer
from monitoring.alerts.machine import Severity
from monitoring.alerts.policy_services import StepValues
from monitoring.alerts.transfer import AlertsFileError
from monitoring.channels import KINDS
from monitoring.models import ChannelConfig, EscalationPolicy, Rule
from safeguards.sealing import channel_secrets
from tests.monitoring.alerting import Bench, at, make_rule
from tests.monitoring.receivers import configure
from tests.monitoring.test_channel_pages import add
from tests.monitoring.test_channels import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]
WEBHOOK = {"url": "http://127.0.0.1:9/T0KEN", "signing_secret": SECRET}


def read(text: str) -> list[transfer.Entry]:
    return transfer.read(text, who="sam", now=timezone.now())


def take(text: str) -> int:
    return transfer.take(read(text), who="sam", now=timezone.now())


def stored() -> list[dict[str, Any]]:
    left_out = ("id", "sealed", "test_asked_at", "tested_at", "test_error")
    rows = [{**each} for each in ChannelConfig.objects.values()]
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]


def policies() -> list[Any]:
    return [
        (
            *(each.name, each.is_default, each.group_wait_s),
            *(
                (step.after_min, step.least_severity, [one.name for one in step.channels.all()])
                for step in each.steps.all()
            ),
        )
        for each in EscalationPolicy.objects.all()
    ]


def make_all(client: Client) -> None:
    """A channel of each kind, and two policies over them."""
    for kind in KINDS:
        more = {"quiet_from": "22:00", "quiet_to": "07:00", "least_severity": "2"} if kind == "mail" else {}
        assert add(client, kind, name=f"my {kind}", **more).status_code == 302
    pager, mail, mqtt = (ChannelConfig.objects.get(kind=each) for each in ("webhook", "mail", "mqtt"))
    steps = [StepValues(0, Severity.INFO, [pager]), StepValues(15, Severity.CRITICAL, [mail, mqtt])]
    policy_services.save_policy(EscalationPolicy(name="Ops", is_default=True, group_wait_s=60), steps)
    policy_services.save_policy(EscalationPolicy(name="Night"), steps[:1])


def test_what_was_exported_comes_back_the_same_with_the_secrets_it_has(admin_client: Client) -> None:
    make_all(admin_client)
    services.keep_default_rules()
    text, before, their_policies = transfer.write(timezone.now()), stored(), policies()
    sealed = {each.name: channel_secrets.unseal(each.sealed) for each in ChannelConfig.objects.all()}
    for secret in ("T0KEN", SECRET, *(value for each in sealed.values() for value in each.values())):
        assert secret not in text
    assert {each.status for each in read(text)} == {"same"}
    ChannelConfig.objects.update(enabled=False, least_severity=3, quiet_from=None, quiet_to=None)
    EscalationPolicy.objects.update(group_wait_s=1, is_default=False)
    assert take(text) == len(KINDS) + 2
    assert (stored(), policies()) == (before, their_policies)
    assert {each.name: channel_secrets.unseal(each.sealed) for each in ChannelConfig.objects.all()} == sealed
    assert transfer.write(timezone.now()) == text


def test_where_nothing_is_stored_channels_are_off_until_their_secrets_are_entered(
    admin_client: Client,
) -> None:
    make_all(admin_client)
    text, before, their_policies = transfer.write(timezone.now()), stored(), policies()
    EscalationPolicy.objects.all().delete()
    ChannelConfig.objects.all().delete()
    page = admin_client.post("/alerts/rules/import/", {"text": text}).content.decode()
    assert not ChannelConfig.objects.exists()
    assert "my webhook is off until you enter on its page: Address and Signing secret." in page
    page = admin_client.post(
        "/alerts/rules/import/", {"text": text, "sure": "yes"}, follow=True
    ).content.decode()
    assert "my mail is off until you enter on its page: Password." in page
    assert "enter its Address and Signing secret" in page  # and so it says from now on
    assert "enter its Long-lived access token" in page
    assert "enter its Password" in page
    assert stored() == [{**row, "enabled": False} for row in before]
    assert policies() == their_policies
    assert {each.status for each in read(text)} == {"same"}  # taken again, they are not switched on
    mail = ChannelConfig.objects.get(kind="mail")
    assert (mail.quiet_from, mail.least_severity) == (time(22), 2)


def test_a_file_may_give_secrets_which_are_not_shown_in_what_it_changes() -> None:
    text = f"channels: [{{name: Pager, kind: webhook, url: 'http://127.0.0.1:9/T0KEN', signing_secret: {SECRET}}}]"
    (entry,) = read(text)
    assert ("url", "", "given, not shown") in entry.changes
    assert "T0KEN" not in str(entry.changes)
    assert take(text) == 1
    config = ChannelConfig.objects.get()
    assert (config.enabled, channel_secrets.unseal(config.sealed)) == (True, WEBHOOK)
    assert read(text)[0].status == "same"
    assert read(text.replace("T0KEN", "an0ther"))[0].changes == [("url", "", "given, not shown")]


def test_unquoted_times_are_understood() -> None:
    take("channels: [{name: A, kind: webhook, quiet_from: 22:00, quiet_to: 7:05}]")
    config = ChannelConfig.objects.get()
    assert (config.quiet_from, config.quiet_to) == (time(22), time(7, 5))


def test_a_rule_a_policy_and_a_channel_may_come_in_one_file() -> None:
    text = """
channels: [{name: Pager, kind: webhook}]
policies: [{name: Ops, steps: [{after_min: 0, channels: [Pager]}]}]
rules:
- {name: Heat, series: heat_percent, fire_at: 90, clear_at: 80, policy: Ops}
- {name: Load, series: load1, fire_at: 90, clear_at: 80, policy: no}
- {name: Other, series: disk_used_percent, fire_at: 90, clear_at: 80}
"""
    assert take(text) == 5
    assert [
        (each.name, each.policy and each.policy.name, each.no_policy)
        for each in Rule.objects.filter(key=None)
    ] == [("Heat", "Ops", False), ("Load", None, True), ("Other", None, False)]
    assert {each.status for each in read(text)} == {"same"}
    again = yaml.safe_load(transfer.write(at(0)))
    assert [each.get("policy") for each in again["rules"] if "default" not in each] == ["Ops", False, None]
    (load,) = [each for each in read(text.replace("policy: no", "policy: Ops")) if each.name == "Load"]
    assert load.changes == [("policy", "no", "Ops")]


def test_another_default_policy_is_said() -> None:
    EscalationPolicy.objects.create(name="Old", is_default=True)
    configure("webhook", {}, WEBHOOK, name="Pager")
    steps = "steps: [{after_min: 0, channels: [Pager]}]"
    (entry,) = read(f"policies: [{{name: Ops, is_default: true, {steps}}}]")
    assert entry.notes == ["Old is the default policy no more"]
    transfer.take([entry], who="sam", now=timezone.now())
    assert list(EscalationPolicy.objects.values_list("name", "is_default")) == [("Old", False), ("Ops", True)]


def test_what_waits_for_a_channel_that_a_file_switches_off_is_held_back() -> None:
    make_rule()
    config = configure("webhook", {}, WEBHOOK, name="Pager")
    Bench().heat(95)
    take("channels: [{name: Pager, kind: webhook, enabled: false}]")
    row = config.deliveries.get()
    assert (row.status, row.reason) == ("suppressed", "the channel was switched off by sam")


STEP = "steps: [{after_min: 0, channels: [Pager]}]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channels: [{name: A}]", "line 1: channel A: kind: None is none of webhook"),
        ("channels: [{name: A, kind: [x]}]", "line 1: channel A: kind"),
        ("channels:\n- {kind: webhook}", "line 2: channels[0]: name"),
        (
            "channels:\n\n- {name: A, kind: mqtt, topic: x}\n- {name: B, kind: mqtt, host: 127.0.0.1, topic: 'a/#'}",
            "line 4: channel B: topic: Give a topic to publish on",
        ),
        ("channels: [{name: A, kind: mqtt, host: 169.254.169.254}]", "channel A: host: Nothing is sent to"),
        ("channels: [{name: A, kind: webhook, colour: red}]", "channel A: colour: no such field"),
        ("channels: [{name: A, kind: webhook, secrets: [x]}]", "channel A: secrets: give a list of some"),
        ("channels: [{name: A, kind: webhook, signing_secret: x}]", "channel A: signing_secret: Give whsec_"),
        ("channels: [{name: A, kind: webhook, quiet_from: late}]", "channel A: quiet_from"),
        (
            "channels: [{name: A, kind: webhook, least_severity: 2}]",
            "channel A: least_severity: 2 is none of",
        ),
        ("channels: [{name: A, kind: webhook}, {name: A, kind: mqtt}]", "channel A: name: it stands twice"),
        (
            "channels: [{name: Pager, kind: mqtt}]",
            "channel Pager: kind: there is one of this name already, a W",
        ),
        ("channels: [{name: log, kind: webhook}]", "channel log: name: log is always there"),
        (
            "channels: [{name: House, kind: home_assistant, url: 'http://127.0.0.1:1'}]",
            "channel House: token: It was stored for another place",
        ),
        (
            "channels: [{name: A, kind: webhook, enabled: 'no'}]",
            "channel A: enabled: 'no' is neither true nor",
        ),
        ("channels: [{name: A, kind: mqtt, host: {a: b}}]", "channel A: host: give a value"),
        (
            "rules: [{name: A, series: x, fire_at: 2, clear_at: 1, enabled: 1}]",
            "rule A: enabled: 1 is neither",
        ),
        ("policies: [{name: A}]", "line 1: policy A: steps: give a list"),
        ("policies: [{name: A, steps: [x]}]", "policy A: steps: give a list"),
        (
            "policies: [{name: A, steps: [{after_min: 0, channels: [Nobody]}]}]",
            "policy A: steps[0].channels: There is no channel Nobody",
        ),
        ("policies: [{name: A, steps: [{after_min: 0}]}]", "policy A: steps[0].channels: Give a list"),
        (
            "policies: [{name: A, steps: [{channels: [Pager]}]}]",
            "policy A: steps[0].after_min: Give the minutes",
        ),
        ("policies: [{name: A, steps: [{after_min: 0, who: x}]}]", "policy A: steps[0]: who: no such field"),
        (
            "policies: [{name: A, steps: [{after_min: 0, channels: [Pager], least_severity: bad}]}]",
            "policy A: steps[0]: least_severity: 'bad' is none of",
        ),
        (
            "policies: [{name: A, steps: [{after_min: 9, channels: [Pager]}, {after_min: 3, channels: [Pager]}]}]",
            "policy A: steps[1].after_min: The step before comes after 9 min",
        ),
        (f"policies: [{{name: A, group_wait_s: 9999, {STEP}}}]", "policy A: group_wait_s: Ensure this value"),
        (
            f"policies:\n- {{name: A, is_default: true, {STEP}}}\n- {{name: B, is_default: true, {STEP}}}",
            "line 3: policy B: is_default: A is the default policy in this file already",
        ),
        (
            "rules: [{name: A, series: x, fire_at: 2, clear_at: 1, policy: Nobody}]",
            "rule A: policy: There is no such escalation policy: Nobody",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field_and_nothing_is_taken(text: str, said: str) -> None:
    configure("webhook", {}, WEBHOOK, name="Pager")
    configure("home_assistant", {"url": "http://127.0.0.1:8123"}, {"token": "long"}, name="House")
    before = stored()
    with pytest.raises(AlertsFileError) as error:
        read(f"{text}\nsilences: []")
    assert said in str(error.value)
    assert stored() == before
    assert not EscalationPolicy.objects.exists()
    assert not Rule.objects.filter(key=None).exists()


values = st.recursive(
    st.sampled_from(
        [None, True, False, 0, 1, -5, 2.5, 1320, "", "127.0.0.1", "info", "A", "22:00", date(2036, 1, 1)]
    )
    | st.sampled_from(
        [*KINDS, "threshold", "composite", "forecast", "none", "FREQ=DAILY", "a=b", "\x00", "x" * 400]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
RIGHT: dict[str, dict[str, Any]] = {
    "channels": {
        "name": "A",
        "kind": "mqtt",
        "host": "127.0.0.1",
        "topic": "t",
        "zone": "UTC",
        "enabled": True,
    }
    | {
        "quiet_from": "22:00",
        "quiet_to": "07:00",
        "least_severity": "info",
        "secrets": [],
        "ca": "",
        "port": 1883,
    },
    "policies": {
        "name": "A",
        "is_default": True,
        "group_wait_s": 30,
        "steps": [{"after_min": 0, "channels": ["House"]}],
    },
    "rules": {
        "name": "A",
        "series": "x",
        "fire_at": 2,
        "clear_at": 1,
        "policy": "Ops",
        "severity": "info",
        "side": "above",
    }
    | {"kind": "threshold", "members": [], "enabled": True, "window_s": 60, "limit": 1, "default": None},
    "silences": {
        "matchers": "a=b",
        "from": date(2036, 1, 1),
        "to": date(2036, 1, 2),
        "reason": "x",
        "repeats": "",
    }
    | {"zone": "UTC", "lasts_s": None, "author": "sam"},
}


def rows_of(key: str) -> st.SearchStrategy[Any]:
    """Right ones but for a field, and what is no list of rows at all."""
    changed = st.dictionaries(st.sampled_from([*RIGHT[key], "colour"]), values, max_size=1)
    rows = st.lists(changed.map(lambda found: {**RIGHT[key], **found}), max_size=1)
    return st.one_of(rows, rows, rows, rows, values)


files = st.fixed_dictionaries({}, optional={key: rows_of(key) for key in RIGHT})


@settings(max_examples=150, deadline=None)
@given(files)
def test_whatever_a_file_says_it_is_understood_or_its_mistakes_are_named(
    django_db_blocker: Any, tree: dict[str, Any]
) -> None:
    with django_db_blocker.unblock(), transaction.atomic():
        configure("webhook", {}, WEBHOOK, name="House")
        EscalationPolicy.objects.create(name="Ops")
        text = yaml.safe_dump(tree)
        with suppress(AlertsFileError):
            take(text)
            assert {each.status for each in read(text)} <= {"same", "over"}  # taken once, it is so
        transaction.set_rollback(True)


def test_a_channel_sealed_under_another_key_is_not_overwritten(settings: Any) -> None:
    settings.SECRET_KEY = "before"
    sealed = configure("webhook", {}, WEBHOOK, name="Pager").sealed
    settings.SECRET_KEY = "after"
    text = transfer.write(at(0))
    with pytest.raises(
        AlertsFileError, match="channel Pager: secrets: its secrets were stored under another"
    ):
        read(text)
    assert ChannelConfig.objects.get().sealed == sealed != channel_secrets.seal(WEBHOOK)


def test_who_is_not_staff_exports_neither_channels_nor_policies(client: Client) -> None:
    configure("webhook", {}, WEBHOOK, name="Pager")
    EscalationPolicy.objects.create(name="Ops")
    client.force_login(User.objects.create_user("anna"))
    assert set(yaml.safe_load(client.get("/alerts/rules/export/").content)) == {"rules", "silences"}


def test_a_stale_channel_keeps_its_secret_when_it_is_saved_from_a_file() -> None:
    config = configure("webhook", {}, WEBHOOK, name="Pager")
    take("channels: [{name: Pager, kind: webhook, least_severity: critical}]")
    config.refresh_from_db()
    assert (config.least_severity, config.enabled, channel_secrets.unseal(config.sealed)) == (
        3,
        True,
        WEBHOOK,
    )
    channel_services.delete_channel(config, who="sam")
