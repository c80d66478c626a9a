"""Pages of rules, and what a preview says of them."""

import json
from typing import Any

import numpy as np
import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring.alerts import selectors, services
from monitoring.alerts.loop import AlertLoop
from monitoring.alerts.preview import HEARTBEAT, MOST_SERIES, MOST_STEPS, SPAN_S, preview
from monitoring.alerts.rule_form import RuleForm
from monitoring.alerts.selectors import LAST_KEY
from monitoring.models import Alert, Rule, RuleState
from monitoring.services import SampleWriter
from tests.monitoring.alerting import HOST, T0, Bench, at, make_rule
from tests.monitoring.stored import store

pytestmark = pytest.mark.django_db
START = int(T0) // 300 * 300
HOUR = 3600


@pytest.fixture
def person(client: Client) -> Client:
    """Logged in, not staff."""
    client.force_login(User.objects.create_user("anna"))
    return client


@pytest.fixture
def staff(client: Client, settings: Any) -> Client:
    settings.HOST_NAME = HOST
    client.force_login(User.objects.create_user("sam", is_staff=True))
    services.keep_default_rules()
    return client


def form_of(rule: Rule, **values: Any) -> dict[str, Any]:
    """What a browser sends of `rule`, with `values` typed over it."""
    form = RuleForm(instance=rule)
    sent = {name: form[name].value() for name in form.fields} | values
    return {
        name: "on" if value is True else value
        for name, value in sent.items()
        if value is not None and value is not False
    }


def new(**values: Any) -> dict[str, Any]:
    return form_of(
        Rule(), **{"name": "Mine", "series": "heat_percent", "fire_at": 90, "clear_at": 80, **values}
    )


def test_everyone_reads_and_staff_changes(person: Client) -> None:
    rule = make_rule()
    assert person.get("/alerts/rules/").status_code == 200
    page = person.get(f"/alerts/rules/{rule.pk}/").content.decode()
    assert "Save the rule" not in page
    assert person.post(reverse("rule-preview"), form_of(rule)).status_code == 200
    assert person.get(reverse("rule-new")).status_code == 403
    for name, args in (
        ("rule-new", []),
        ("rule", [rule.pk]),
        ("rule-switch", [rule.pk]),
        ("rule-delete", [rule.pk]),
    ):
        assert person.post(reverse(name, args=args), form_of(rule, name="Other")).status_code == 403, name
    assert list(Rule.objects.values_list("name", "enabled")) == [("Heat", True)]


def test_nobody_reads_a_rule_without_a_login(client: Client) -> None:
    rule = make_rule()
    for name, args in (("alert-rules", []), ("rule", [rule.pk]), ("rule-new", [])):
        assert client.get(reverse(name, args=args))["Location"].startswith("/login/")
    for name in ("rule-words", "rule-preview"):
        assert client.post(reverse(name))["Location"].startswith("/login/")


def test_a_rule_is_written_edited_switched_and_deleted(staff: Client) -> None:
    assert staff.post(reverse("rule-new"), new()).status_code == 302
    rule = Rule.objects.get(name="Mine")
    assert (rule.fire_at, rule.set_by, rule.note) == (90, "person", "set by sam")
    staff.post(reverse("rule", args=[rule.pk]), form_of(rule, fire_at=95))
    staff.post(reverse("rule-switch", args=[rule.pk]), {"enabled": "off"})
    rule.refresh_from_db()
    assert (rule.fire_at, rule.enabled) == (95, False)
    page = staff.get(reverse("rule-new") + f"?copy={rule.pk}").content.decode()
    assert "Mine (copy)" in page
    staff.post(reverse("rule-delete", args=[rule.pk]))
    assert not Rule.objects.filter(name="Mine").exists()


def test_a_default_rule_that_a_person_has_set_stays_and_is_not_deleted(staff: Client) -> None:
    rule = Rule.objects.get(key="memory")
    assert (
        staff.post(reverse("rule", args=[rule.pk]), form_of(rule, fire_at=70, clear_at=60)).status_code == 302
    )
    services.keep_default_rules()
    rule.refresh_from_db()
    assert rule.fire_at == 70
    page = staff.post(reverse("rule-delete", args=[rule.pk]), follow=True).content.decode()
    assert "switched off, not deleted" in page
    assert Rule.objects.filter(key="memory").exists()


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "CPU"}, "name", "Another rule has this name"),
        ({"clear_at": 95}, "clear_at", "has to clear below it"),
        ({"side": "below", "clear_at": 85}, "clear_at", "has to clear above it"),
        ({"side": "either"}, "side", "Only a deviation"),
        ({"critical_at": 80}, "critical_at", "beyond that"),
        ({"series": ""}, "series", "Choose a series"),
        ({"series": "Memory used"}, "series", "is no name of a series"),
        ({"series": "memory_used_percent{host=~[}"}, "series", "is no regular expression"),
        ({"series": "sample_age_s{host=box}"}, "series", "named without labels"),
        ({"divisor": "memory_total_bytes"}, "divisor", "Only a share"),
        ({"aggregate": "share"}, "divisor", "A share needs"),
        ({"window_s": 0}, "window_s", "greater than or equal to 1"),
        ({"window_s": 7200}, "window_s", "1 to 3600 seconds"),
        ({"for_s": -1}, "for_s", "greater than or equal to 0"),
        ({"fire_at": "much"}, "fire_at", "Enter a number"),
        ({"fire_at": ""}, "fire_at", "Give a number"),
        ({"kind": "rate", "window_s": 5}, "window_s", "10 to 86400"),
        ({"kind": "forecast", "window_s": 3600, "fire_at": 5, "clear_at": 8}, "limit", "needs the value"),
        (
            {"kind": "forecast", "window_s": 3600, "limit": 100, "fire_at": 5, "clear_at": 3},
            "clear_at",
            "above it",
        ),
        (
            {"kind": "forecast", "window_s": 3600, "limit": 100, "fire_at": 0, "clear_at": 3},
            "fire_at",
            "more than 0",
        ),
        (
            {"kind": "deviation", "window_s": 120, "load": "gateway_running"},
            "busy_at",
            "from which on it is busy",
        ),
        ({"kind": "deviation", "window_s": 120, "load": "No!"}, "load", "is no name"),
        ({"kind": "composite"}, "members", "two rules or more"),
        ({"kind": "no_data", "no_data_for_s": 0}, "no_data_for_s", "greater than or equal to 1"),
        ({"kind": "magic"}, "kind", "not one of the available choices"),
    ],
)
def test_a_wrong_rule_is_said_beside_its_field_and_nothing_typed_is_lost(
    staff: Client, values: dict[str, Any], field: str, said: str
) -> None:
    answer = staff.post(reverse("rule-new"), new(advice="kept text", **values))
    assert answer.status_code == 200
    assert said in " ".join(answer.context["form"].errors[field])
    assert "kept text" in answer.content.decode()
    assert not Rule.objects.filter(name="Mine").exists()


def test_a_rule_on_a_series_that_nobody_knows_gets_a_hint(staff: Client) -> None:
    SampleWriter(HOST, 168).write(T0, {"memory_used_percent": 1.0, "load1": 1.0})
    text = staff.post(reverse("rule-new"), new(series="memory_use_percent"), follow=True).content.decode()
    assert Rule.objects.get(name="Mine").set_by == "person"
    assert "No stored series fits" in text
    assert "memory_used_percent" in text


def test_a_composite_joins_rules_and_no_composites(staff: Client) -> None:
    one, two = Rule.objects.get(key="cpu"), Rule.objects.get(key="memory")
    staff.post(reverse("rule-new"), new(kind="composite", members=[one.pk, two.pk], fire_at="", clear_at=""))
    both = Rule.objects.get(name="Mine")
    assert set(both.members.all()) == {one, two}
    assert both.spec().members == (one.pk, two.pk)
    nested = staff.post(reverse("rule-new"), new(name="Nested", kind="composite", members=[one.pk, both.pk]))
    assert "members" in nested.context["form"].errors
    turned = staff.post(reverse("rule", args=[one.pk]), form_of(one, kind="composite", members=[two.pk]))
    assert "kind" in turned.context["form"].errors
    page = staff.post(reverse("rule-delete", args=[make_rule().pk]), follow=True).content.decode()
    assert "is deleted" in page
    assert "part of Mine" in staff.get("/alerts/rules/").content.decode()
    staff.post(reverse("rule", args=[both.pk]), form_of(both, kind="threshold", series="x", members=[]))
    assert not both.members.exists()


def test_a_rule_that_is_part_of_another_is_not_deleted(staff: Client) -> None:
    one, two = make_rule(), make_rule(name="Other")
    staff.post(reverse("rule-new"), new(kind="composite", members=[one.pk, two.pk]))
    page = staff.post(reverse("rule-delete", args=[one.pk]), follow=True).content.decode()
    assert "Mine joins this rule" in page
    assert Rule.objects.filter(pk=one.pk).exists()


def test_the_list_says_how_many_series_are_in_which_state(
    person: Client, settings: Any, valkey_url: str, django_assert_max_num_queries: Any
) -> None:
    settings.HOST_NAME = HOST
    rule = make_rule()
    bench = Bench()
    bench.heat(95)
    newest = {
        "at": T0,
        "host": HOST,
        "v": {"heat_percent{n=1}": 1.0, "heat_percent{n=2}": 2.0, "heat_percent": 95.0},
    }
    with redis.from_url(valkey_url) as client:
        client.set(LAST_KEY, json.dumps(newest), ex=30)
        with django_assert_max_num_queries(10):
            page = person.get("/alerts/rules/").content.decode()
        rows = {row.rule.pk: row for row in selectors.rules_with_states(HOST)}
        client.delete(LAST_KEY)
    assert (rows[rule.pk].n_ok, rows[rule.pk].not_ok) == (2, {"firing": 1})
    assert rows[rule.pk].last_fired_at is not None
    assert "1 firing" in page
    assert "2 ok" in page
    assert {row.n_ok for row in selectors.rules_with_states(HOST)} == {None}  # nobody knows now
    assert "mean of 10 s at least 90 %, for 60 s" in page


def test_the_form_says_the_rule_in_words_with_the_series_that_fit(staff: Client, valkey_url: str) -> None:
    newest = {
        "at": T0,
        "host": HOST,
        "v": {"heat_percent{n=1}": 71.5, "cold_percent": 2.0, "heat_percent{n=2}": None},
    }
    with redis.from_url(valkey_url) as client:
        client.set(LAST_KEY, json.dumps(newest), ex=30)
        page = staff.post(reverse("rule-words"), new(name="", critical_at=95)).content.decode()
        form = staff.get(reverse("rule-new")).content.decode()
        client.delete(LAST_KEY)
    words = " ".join(page.split())
    assert (
        "(critical from 95 % on) fires when, of heat_percent, the last value is at least 90 % for 1 min."
        in words
    )
    assert "It resolves when it is below 80 % for 1 min." in words
    assert "71.5 %" in page
    assert "unknown" in page
    assert "cold_percent" not in page
    assert '<option value="heat_percent{n=1}" label="71.5 %">' in form
    assert "Give a number" in staff.post(reverse("rule-words"), new(fire_at="")).content.decode()


@pytest.mark.parametrize("kind", ["threshold", "rate", "deviation", "forecast", "no_data", "composite"])
def test_every_condition_has_its_words_and_its_line_in_the_list(staff: Client, kind: str) -> None:
    windows = {"rate": 300, "deviation": 120, "forecast": 3600}
    clear = 120 if kind == "forecast" else 80
    members = list(Rule.objects.filter(key__in=("cpu", "memory")).values_list("pk", flat=True))
    typed = new(kind=kind, window_s=windows.get(kind, 10), limit=100, clear_at=clear, members=members)
    page = staff.post(reverse("rule-words"), typed).content.decode()
    assert "alert" in page
    assert "Not a whole rule" not in page
    assert staff.post(reverse("rule-new"), typed).status_code == 302
    assert "Mine" in staff.get("/alerts/rules/").content.decode()


def hot(n: int) -> Any:
    """Steady at 50 with noise, hot for 20 minutes from the second hour on."""
    values = 50 + np.random.default_rng(1).normal(0, 1, n)
    values[2 * HOUR : 2 * HOUR + 1200] += 45
    return values


RULES: list[dict[str, Any]] = [
    {"aggregate": "mean", "window_s": 30, "for_s": 60, "keep_firing_for_s": 30, "critical_at": 94},
    {"kind": "rate", "window_s": 60, "fire_at": 10, "clear_at": 5},
    {"kind": "deviation", "window_s": 120, "fire_at": 4, "clear_at": 2, "for_s": 30},
    {"kind": "forecast", "window_s": 1200, "limit": 100, "fire_at": 1, "clear_at": 2},
    {"kind": "no_data", "no_data_for_s": 60},
]


@pytest.mark.parametrize("values", RULES, ids=[each.get("kind", "threshold") for each in RULES])
def test_a_preview_says_what_the_collector_then_does(values: dict[str, Any]) -> None:
    """The same stored samples, once through the preview and once through the collector's loop, second by second."""
    n = 4 * HOUR
    series = hot(n)
    series[3 * HOUR : 3 * HOUR + 300] = np.nan
    series[-1800:] += np.linspace(0, 43, 1800)
    store(HOST, START, {"heat_percent": series, HEARTBEAT: np.zeros(n)})
    rule = make_rule(**values)
    begin, end = START + HOUR + 900, START + n
    said = preview(rule.spec(), [], HOST, end)
    assert said.end - said.start == SPAN_S
    firings = [(each.start, each.end, each.critical) for each in said.lines[0].firings]
    assert firings

    loop = AlertLoop(HOST)
    evaluator_from = begin - START
    for second in range(evaluator_from, n):
        value = float(series[second])
        loop.feed(
            {
                "at": float(START + second),
                "v": {"heat_percent": None if value != value else value, HEARTBEAT: 0.0},
            }
        )
        loop.take_next()
    done = [
        (
            int(each.fired_at.timestamp()),
            int(each.resolved_at.timestamp()) if each.resolved_at else None,
            each.severity == 3,
        )
        for each in Alert.objects.order_by("fired_at")
    ]
    assert done == [each for each in firings if each[0] >= begin]


def test_a_preview_is_bounded_and_says_so(staff: Client) -> None:
    n = 2 * HOUR
    columns = {f"heat_percent{{n={place}}}": np.full(n, 95.0) for place in range(MOST_SERIES + 5)}
    store(HOST, START, columns)
    rule = make_rule(for_s=60)
    said = preview(rule.spec(), [], HOST, START + n)
    assert (len(said.lines), said.n_series) == (MOST_SERIES, MOST_SERIES + 5)
    assert said.end - said.start == MOST_STEPS // MOST_SERIES
    assert said.n_fired == MOST_SERIES
    assert said.missing_percent == pytest.approx(100 * (1 - n / (MOST_STEPS // MOST_SERIES)), abs=0.1)


def test_the_preview_is_shown_with_its_chart(staff: Client) -> None:
    now = int(timezone.now().timestamp())
    start = (now - 4 * HOUR) // 300 * 300
    store(HOST, start, {"heat_percent": hot(4 * HOUR)})
    answer = staff.post(reverse("rule-preview"), new(name="", for_s=60, critical_at=98))
    page = " ".join(answer.content.decode().split())
    assert "it would have fired <b>1 time</b> on 1 series, 20 min in all" in page
    assert "83 % of that time has no samples" in page
    chart = answer.context["chart"]
    shades = [each for each in chart["layout"]["shapes"] if each["type"] == "rect"]
    assert [(each["x1"] - each["x0"]) // 60000 for each in shades] == [20]
    assert [each["y0"] for each in chart["layout"]["shapes"] if each["type"] == "line"] == [90, 80, 98]
    page = staff.post(reverse("rule-preview"), new(series="cold_percent")).content.decode()
    assert "no samples of a series that fits" in page
    assert "Give a number" in staff.post(reverse("rule-preview"), new(fire_at="")).content.decode()
    assert not Alert.objects.exists()
    assert not RuleState.objects.exists()


def test_a_preview_of_a_composite_runs_its_members(staff: Client) -> None:
    now = int(timezone.now().timestamp())
    start = (now - 4 * HOUR) // 300 * 300
    store(
        HOST,
        start,
        {
            "heat_percent": hot(4 * HOUR),
            "load1": np.r_[np.zeros(2 * HOUR + 600), np.full(2 * HOUR - 600, 9.0)],
        },
    )
    one, two = make_rule(), make_rule(name="Load", series="load1", fire_at=5, clear_at=4, enabled=False)
    for all_of, minutes in ((True, "10 min"), (False, "1 h 59 min")):
        typed = new(kind="composite", members=[one.pk, two.pk], all_of=all_of, for_s=0, keep_firing_for_s=0)
        page = " ".join(staff.post(reverse("rule-preview"), typed).content.decode().split())
        assert f"<b>1 time</b> on 1 host, {minutes}" in page or not all_of
    assert "2 h" in page or "1 h 5" in page


def test_what_a_composite_says_is_an_alert_of_the_host_and_survives_a_restart() -> None:
    one, two = make_rule(), make_rule(name="Load", series="load1", fire_at=5, clear_at=4, enabled=False)
    both = Rule.objects.create(
        name="Both", kind="composite", fire_at=1, clear_at=0, for_s=0, keep_firing_for_s=0
    )
    both.members.set([one, two])
    bench = Bench()
    bench.heat(50, load1=9.0)
    assert not Alert.objects.exists()  # the part raises none of its own
    bench.restart()
    bench.heat(95, load1=9.0)
    found = Alert.objects.get(rule=both)
    assert (str(found), found.summary, found.labels["rule"]) == (
        "Both on box",
        "2 of 2 conditions hold",
        "Both",
    )
    assert found.entries.get().text == "2 of 2 conditions hold: Heat, Load"
    bench.restart()
    bench.heat(95, load1=1.0)
    found.refresh_from_db()
    assert not found.is_open
    # Switched on, it starts anew: what it knew as a part is no episode.
    bench.heat(95, load1=9.0)
    two.enabled = True
    services.save_rule(two, "sam", timezone.now())
    bench.heat(95, 95, 95, load1=9.0)
    assert Alert.objects.get(rule=two).is_open


@pytest.mark.parametrize("kind", ["rate", "deviation", "forecast", "no_data"])
def test_the_page_of_an_alert_draws_the_series_whatever_the_condition(staff: Client, kind: str) -> None:
    now = int(timezone.now().timestamp())
    start = (now - 2 * HOUR) // 300 * 300
    store(HOST, start, {"heat_percent": hot(2 * HOUR)})
    rule = make_rule(kind=kind, limit=100)
    found = Alert.objects.create(
        rule=rule, rule_name="Heat", fingerprint="f", host=HOST, series="heat_percent", labels={}, severity=2, above=True,
        kind=kind, unit=rule.unit, fire_at=4, clear_at=2, value=5, fired_at=timezone.now(),
    )  # fmt: skip
    answer = staff.get(f"/alerts/{found.pk}/")
    assert answer.status_code == 200
    lines = [
        each["y0"] for each in answer.context["chart"]["layout"]["shapes"] if each.get("xref") == "paper"
    ]
    assert lines == ([100] if kind == "forecast" else [])


def test_an_episode_ends_when_its_rule_compares_something_else() -> None:
    rule = make_rule()
    bench = Bench()
    bench.heat(95)
    rule.kind, rule.window_s = "rate", 60
    services.save_rule(rule, "sam", at(2))
    found = Alert.objects.get()
    assert not found.is_open
    assert found.entries.last().text == "the rule compares something else now"  # type: ignore[union-attr]
    assert not RuleState.objects.exists()
    bench.heat(95, 95, 95)
    assert Alert.objects.count() == 1


def test_a_series_that_went_while_nobody_looked_is_missed() -> None:
    """A disk that is gone after the restart of the machine."""
    n = 2 * HOUR
    store(HOST, START, {"heat_percent": np.ones(n), "load1": np.ones(n)})
    make_rule(kind="no_data", no_data_for_s=60)
    bench = Bench()
    bench.now = START + n + 4 * HOUR - T0
    bench.heat(*[None] * 70, load1=1.0)
    found = Alert.objects.get()
    assert (found.summary, found.state, found.value) == ("no samples any more", "no_data", None)
    assert found.series == "heat_percent"
    bench.restart()
    bench.heat(1.0, load1=1.0)
    found.refresh_from_db()
    assert not found.is_open
