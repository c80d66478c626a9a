"""Rules and silences as YAML: there and back, mistakes, and what an import changes."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import services, transfer
from monitoring.alerts.transfer import AlertsFileError
from monitoring.models import Rule, Silence
from tests.monitoring.alerting import make_rule

pytestmark = pytest.mark.django_db


def read(text: str) -> list[transfer.Entry]:
    return transfer.read(text, who="sam", now=timezone.now())


def take(text: str) -> int:
    return transfer.take(read(text), who="sam", now=timezone.now())


def facts() -> dict[str, Any]:
    """Everything of the rules that decides."""
    left_out = {"id", "updated_at", "set_by", "note"}
    found = {}
    for rule in Rule.objects.prefetch_related("members"):
        values = {each.name: getattr(rule, each.name) for each in rule._meta.concrete_fields}
        found[rule.name] = {name: value for name, value in values.items() if name not in left_out}
        found[rule.name]["members"] = sorted(each.name for each in rule.members.all())
    return found


names = (
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
)
numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["threshold", "rate", "deviation", "forecast", "no_data"]))
    low, high = sorted(
        draw(
            st.lists(
                st.floats(0.5, 1e6).map(lambda value: round(value, 2)), min_size=2, max_size=2, unique=True
            )
        )
    )
    above = draw(st.booleans())
    fires_above = kind == "deviation" or (kind == "rate" and above) or (kind == "threshold" and above)
    found: dict[str, Any] = {
        "name": draw(names),
        "kind": kind,
        "series": draw(
            st.sampled_from(["heat_percent", 'disk_used_percent{mount=~"/data.*"}', "load1{a=b, c=d}"])
        ),
        "enabled": draw(st.booleans()),
        "severity": draw(st.sampled_from([1, 2, 3])),
        "advice": draw(st.sampled_from(["", "no: yes # [x]", "mehrzeilig\u00e4", "'quoted'"])),
        "no_data_for_s": draw(st.integers(1, 86400)),
        "keep_firing_for_s": draw(st.integers(0, 86400)),
        "cooldown_s": draw(st.integers(0, 86400)),
        "repeat_s": draw(st.integers(0, 86400)),
    }
    if kind == "no_data":
        return {**found, "fire_at": 1.0, "clear_at": 0.0}
    found |= {
        "above": above,
        "fire_at": high if fires_above else low,
        "clear_at": low if fires_above else high,
        "for_s": draw(st.integers(0, 86400)),
        "no_data": draw(st.sampled_from(["ok", "fire", "keep_last"])),
        "window_s": draw(st.integers(600, 3600)),
    }
    if kind == "rate":
        found["per_s"] = draw(st.sampled_from([1, 60, 3600]))
    if kind == "forecast":
        found["limit"] = draw(numbers)
    if kind == "deviation":
        found |= {
            "either": draw(st.booleans()),
            "past_h": draw(st.integers(1, 168)),
            "least": draw(st.floats(0, 100)),
        }
        found["above"] = above or found["either"]
        if draw(st.booleans()):
            found |= {"load": "gateway_running", "busy_at": draw(numbers)}
    return found


@settings(max_examples=20, deadline=None)
@given(st.lists(rules(), max_size=4, unique_by=lambda each: each["name"]), st.booleans())
def test_what_was_exported_comes_back_the_same(
    django_db_blocker: Any, given_: list[dict[str, Any]], joined: bool
) -> None:
    with django_db_blocker.unblock(), transaction.atomic():
        made = [Rule.objects.create(**values) for values in given_]
        for rule in made:
            rule.full_clean()
        if joined and len(made) > 1:
            both = Rule.objects.create(name="~ both ~", kind="composite", fire_at=1, clear_at=0, all_of=False)
            both.members.set(made)
        services.keep_default_rules()
        text, before = transfer.write(timezone.now()), facts()
        assert {each.status for each in read(text)} == {"same"}
        Rule.objects.filter(key=None).delete()
        Rule.objects.update(fire_at=7, clear_at=3, enabled=False)
        take(text)
        assert facts() == before
        assert transfer.write(timezone.now()) == text
        transaction.set_rollback(True)


def test_a_file_is_short_and_marks_default_rules() -> None:
    services.keep_default_rules()
    tree = yaml.safe_load(transfer.write(timezone.now()))
    memory = next(each for each in tree["rules"] if each["name"] == "Memory")
    assert memory == {
        "name": "Memory",
        "default": "memory",
        "kind": "threshold",
        "advice": memory["advice"],
        "series": "memory_used_percent",
        "aggregate": "mean",
        "fire_at": 90.0,
        "clear_at": 85.0,
    }
    assert tree["silences"] == []


def test_a_default_rule_is_known_by_its_key_and_an_own_one_by_its_name() -> None:
    make_rule()
    text = """
rules:
- {name: Speicher, default: memory, series: memory_used_percent, aggregate: mean, fire_at: 80, clear_at: 70}
- {name: Heat, series: heat_percent, window_s: 1, fire_at: 91, clear_at: 85, for_s: 0, keep_firing_for_s: 0, cooldown_s: 0}
"""
    memory, heat = read(text)
    assert memory.status == heat.status == "changed"
    assert ("name", "Memory", "Speicher") in memory.changes
    assert heat.changes == [("fire_at", "90.0", "91.0")]
    assert Rule.objects.get(name="Heat").fire_at == 90  # nothing is changed by looking
    assert take(text) == 2
    assert Rule.objects.get(key="memory").name == "Speicher"
    assert Rule.objects.get(name="Heat").set_by == "person"
    assert take(text) == 0


def test_a_composite_may_join_rules_of_the_same_file() -> None:
    text = """
rules:
- {name: Both, kind: composite, members: [One, Two], all_of: false}
- {name: One, series: a, fire_at: 2, clear_at: 1, enabled: false}
- {name: Two, series: b, fire_at: 2, clear_at: 1}
"""
    assert take(text) == 3
    assert sorted(each.name for each in Rule.objects.get(name="Both").members.all()) == ["One", "Two"]
    assert {each.status for each in read(text)} == {"same"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "not valid YAML"),
        ("[]", "must be a mapping"),
        ("alerts: []", "must be a mapping"),
        ("rules: {}", "rules: must be a list"),
        ("{}", "nothing to import"),
        ("rules: [x]", "rules[0]: name"),
        ("rules: [{series: x}]", "rules[0]: name"),
        ("rules: [{name: A, fire_at: 2, clear_at: 1}]", "rule A: series: Choose a series"),
        ("rules: [{name: A, series: x, fire_at: much, clear_at: 1}]", "rule A: fire_at: Enter a number"),
        ("rules: [{name: A, series: x, clear_at: 1}]", "rule A: fire_at: Give a number"),
        (
            "rules: [{name: A, series: x, fire_at: 1, clear_at: 2}]",
            "rule A: clear_at: A rule that fires above 1",
        ),
        (
            "rules: [{name: A, series: x, fire_at: 2, clear_at: 1, colour: red}]",
            "rule A: colour: no such field",
        ),
        ("rules: [{name: A, series: x, fire_at: 2, clear_at: 1, severity: bad}]", "rule A: severity: 'bad'"),
        ("rules: [{name: A, series: x, fire_at: 2, clear_at: 1, kind: magic}]", "rule A: kind"),
        (
            "rules: [{name: A, default: nope, series: x, fire_at: 2, clear_at: 1}]",
            "rule A: default: there is no",
        ),
        ("rules: [{name: A, kind: composite, members: [B, C]}]", "rule A: members: B is no rule"),
        ("rules: [{name: A, series: [x], fire_at: 2, clear_at: 1}]", "rule A: series"),
        (
            "rules: [{name: A, series: x, fire_at: 2, clear_at: 1}, {name: A}]",
            "rule A: name: it stands twice",
        ),
        ("silences: [x]", "silences[0]: must be"),
        (
            "silences: [{matchers: rule=A, from: soon, to: 2036-01-01, reason: x}]",
            "silences[0]: from: give date",
        ),
        (
            "silences: [{matchers: rule, from: 2036-01-01T00:00Z, to: 2036-01-02T00:00Z, reason: x}]",
            "silences[0]: matchers",
        ),
        (
            "silences: [{matchers: a=b, from: 2036-01-02T00:00Z, to: 2036-01-01T00:00Z, reason: x}]",
            "silences[0]: to",
        ),
        (
            "silences: [{matchers: a=b, from: 2036-01-02T00:00Z, to: 9999-12-31T23:59Z, reason: x}]",
            "silences[0]: to: Give a year",
        ),
        (
            "silences: [{matchers: a=b, from: 2036-01-01T00:00Z, to: 2036-01-02T00:00Z}]",
            "silences[0]: reason",
        ),
        ("a: &a [x, x]\nb: &b [*a, *a]", "must be a mapping"),
    ],
)
def test_a_mistake_is_named_with_its_rule_and_field_and_nothing_is_taken(text: str, said: str) -> None:
    with pytest.raises(AlertsFileError) as error:
        read(text)
    assert said in str(error.value)
    assert not Rule.objects.filter(key=None).exists()
    assert not Silence.objects.exists()


def test_silences_travel_and_those_that_are_over_stay_behind() -> None:
    now = timezone.now().replace(microsecond=0)
    for hours in (-1, 5):
        end = now + timedelta(hours=hours)
        Silence.objects.create(
            matchers="rule=Heat\nhost=box",
            start=now - timedelta(hours=2),
            end=end,
            author="anna",
            reason="works",
        )
    text = transfer.write(now)
    kept = Silence.objects.get(end__gt=now)
    assert [each.status for each in read(text) if each.what == "silence"] == ["same"]
    Silence.objects.all().delete()
    take(text)
    back = Silence.objects.get()
    assert (back.matchers, back.start, back.end, back.author) == (kept.matchers, kept.start, kept.end, "anna")
    old = f"silences: [{{matchers: a=b, from: '{now - timedelta(days=2)}', to: '{now - timedelta(days=1)}', reason: x}}]"
    assert [each.status for each in read(old)] == ["over"]
    assert take(old) == 0


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("sam", is_staff=True))
    return client


def test_the_page_exports_compares_and_then_imports(staff: Client) -> None:
    make_rule()
    answer = staff.get("/alerts/rules/export/")
    assert "alerts.yaml" in answer["Content-Disposition"]
    text = answer.content.decode().replace("fire_at: 90.0", "fire_at: 93.5")
    page = staff.post(
        "/alerts/rules/import/", {"file": SimpleUploadedFile("a.yaml", text.encode())}
    ).content.decode()
    assert "- fire_at: 90.0" in page
    assert "+ fire_at: 93.5" in page
    assert Rule.objects.get(name="Heat").fire_at == 90
    done = staff.post("/alerts/rules/import/", {"text": text, "sure": "yes"}, follow=True).content.decode()
    assert "1 entry was new or changed" in done
    assert Rule.objects.get(name="Heat").fire_at == 93.5


def test_every_list_that_travels_leads_to_the_file_and_an_import_back_to_the_list(staff: Client) -> None:
    for path in ("rules", "channels", "escalation", "silences"):
        page = staff.get(f"/alerts/{path}/").content.decode()
        assert 'href="/alerts/rules/export/"' in page
        assert 'href="/alerts/rules/import/"' in page
    texts = {
        "/alerts/channels/": "channels: [{name: Pager, kind: webhook, url: 'http://127.0.0.1:1/'}]",
        "/alerts/escalation/": "policies: [{name: Ops, steps: [{after_min: 0, channels: [Pager]}]}]",
        "/alerts/silences/": "silences: [{matchers: rule=A, from: '2036-01-01', to: '2036-01-02', reason: x}]",
        "/alerts/rules/": "rules: [{name: A, series: cpu_percent, fire_at: 2, clear_at: 1}]",
    }
    for path, text in texts.items():
        answer = staff.post("/alerts/rules/import/", {"text": text, "sure": "yes"})
        assert (answer.status_code, answer.headers.get("Location")) == (302, path)


def test_a_wrong_file_is_said_on_the_page_and_kept(staff: Client) -> None:
    page = staff.post(
        "/alerts/rules/import/", {"text": "rules: [{name: A, fire_at: 7}]", "sure": "yes"}
    ).content.decode()
    assert "rule A: series: Choose a series" in page
    assert "{name: A, fire_at: 7}" in page
    assert (
        "larger than 1 MB"
        in staff.post(
            "/alerts/rules/import/", {"file": SimpleUploadedFile("a", b"x" * 1_000_001)}
        ).content.decode()
    )
    assert (
        "no text"
        in staff.post(
            "/alerts/rules/import/", {"file": SimpleUploadedFile("a", b"\xff\xfe")}
        ).content.decode()
    )


def test_only_staff_imports(client: Client) -> None:
    client.force_login(User.objects.create_user("anna"))
    assert client.get("/alerts/rules/export/").status_code == 200
    assert "/alerts/rules/import/" not in client.get("/alerts/silences/").content.decode()
    assert client.post("/alerts/rules/import/", {"text": "rules: []", "sure": "yes"}).status_code == 403


def test_the_command_exports_and_imports_with_a_dry_run_first(tmp_path: Any) -> None:
    make_rule()
    file = tmp_path / "alerts.yaml"
    call_command("alerts", "export", "--output", str(file))
    file.write_text(file.read_text().replace("fire_at: 90.0", "fire_at: 92.0"))
    out = io.StringIO()
    call_command("alerts", "import", str(file), "--dry-run", stdout=out)
    assert "- fire_at: 90.0" in out.getvalue()
    assert "a dry run" in out.getvalue()
    assert Rule.objects.get(name="Heat").fire_at == 90
    out = io.StringIO()
    call_command("alerts", "import", str(file), "--json", stdout=out)
    assert json.loads(out.getvalue())["imported"] == 1
    assert Rule.objects.get(name="Heat").fire_at == 92
    file.write_text("rules: [{name: A}]")
    with pytest.raises(CommandError, match="rule A: series"):
        call_command("alerts", "import", str(file))
    with pytest.raises(CommandError, match="can't be read"):
        call_command("alerts", "import", str(tmp_path / "none"))
