"""Pages of alerts and rules: who may, what they show, what bad input gets, and how often they ask the database."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring.alerts import selectors, services
from monitoring.models import Alert, Delivery, Silence
from monitoring.services import SampleWriter
from tests.monitoring.alerting import HOST, T0, Bench, make_rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(client: Client) -> Client:
    """Logged in, with no rights in the admin."""
    client.force_login(User.objects.create_user("anna"))
    return client


@pytest.fixture
def alert() -> Alert:
    """An open one, of the last minutes."""
    make_rule()
    bench = Bench()
    bench.now = timezone.now().timestamp() - T0 - 60
    bench.heat(95, 97)
    return Alert.objects.get()


def make_alerts(n: int, **values: Any) -> None:
    now = timezone.now()
    Alert.objects.bulk_create(
        Alert(
            **{
                "rule_name": "Heat",
                "fingerprint": f"{i}",
                "host": HOST,
                "series": "heat_percent",
                "labels": {"host": HOST, "metric": "heat_percent", "rule": "Heat"},
                "severity": i % 3 + 1,
                "above": True,
                "fire_at": 90,
                "clear_at": 85,
                "value": 95,
                "peak": 95,
                "fired_at": now - timedelta(minutes=i),
                **values,
            }
        )
        for i in range(n)
    )


def test_nobody_sees_or_changes_an_alert_without_a_login(client: Client, alert: Alert) -> None:
    for name, args in (
        *(
            ("alerts", []),
            ("alert-statistics", []),
            ("alert-strip", []),
            ("silences", []),
            ("silence-fits", []),
            ("alert-rules", []),
        ),
        ("alert", [alert.pk]),
    ):
        assert client.get(reverse(name, args=args))["Location"].startswith("/login/"), name
    for name in ("alert-acknowledge", "alert-withdraw", "alert-note", "alert-resolve"):
        assert client.post(reverse(name, args=[alert.pk]), {"note": "x"})["Location"].startswith("/login/"), (
            name
        )
    alert.refresh_from_db()
    assert (alert.is_open, alert.acknowledged_at) == (True, None)


def test_what_changes_something_is_posted_with_a_token(alert: Alert) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("anna"))
    for name in ("alert-acknowledge", "alert-withdraw", "alert-note", "alert-resolve"):
        assert client.get(reverse(name, args=[alert.pk])).status_code == 405
        assert client.post(reverse(name, args=[alert.pk]), {"note": "x", "text": "x"}).status_code == 403


def test_the_list_shows_open_ones_by_severity_and_asks_little(
    person: Client, django_assert_num_queries: Any
) -> None:
    make_alerts(40)
    # session, user, open ones (strip, badge), count, page, names of rules and hosts to filter by
    with django_assert_num_queries(7):
        answer = person.get("/alerts/")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert page.count("<tr>") == 1 + 25
    assert page.index("critical") < page.index("warning</span>")
    assert "page 1 of 2, 40 alerts" in page
    assert ">40<" in page.replace("\n", "")
    assert person.get("/alerts/?page=2").content.decode().count("<tr>") == 1 + 15
    assert person.get("/alerts/?page=99").status_code == 200


def test_filters_choose_and_a_wrong_one_is_said(person: Client) -> None:
    make_alerts(6)
    Alert.objects.filter(severity=3).update(acknowledged_at=timezone.now(), acknowledged_by="anna")
    make_alerts(4, resolved_at=timezone.now(), state="resolved", fingerprint="past")

    def n(query: str) -> int:
        return person.get(f"/alerts/?{query}").content.decode().count("<tr>") - 1

    assert [n(q) for q in ("", "severity=3", "state=acknowledged", "state=unseen", "state=resolved")] == [
        6,
        2,
        2,
        4,
        4,
    ]
    assert n("state=all&severity=1") == 4
    assert "No such alerts" in person.get("/alerts/?state=unseen&severity=3").content.decode()
    wrong = person.get("/alerts/?state=broken&severity=9").content.decode()
    assert "broken is not one of the available choices" in wrong
    assert "9 is not one of the available choices" in wrong


def test_the_list_is_narrowed_by_rule_host_time_and_text(person: Client) -> None:
    make_alerts(4)
    make_alerts(
        2,
        rule_name="Disk & more",
        host="nas",
        series="disk_used_percent{mount=/data}",
        fingerprint="d",
        resolved_at=timezone.now(),
    )
    Alert.objects.filter(rule_name="Heat").update(fired_at=timezone.now() - timedelta(days=3))

    def n(**asked: str) -> int:
        return person.get("/alerts/", {"state": "all", **asked}).content.decode().count("<tr>") - 1

    assert [n(), n(rule="heat"), n(host="NAS"), n(fired="86400"), n(fired="604800")] == [6, 4, 2, 2, 6]
    assert [n(text="mount=/data"), n(text="HEAT"), n(text="nothing like it")] == [2, 4, -1]
    page = person.get("/alerts/", {"rule": "Disk & more", "state": "all"}).content.decode()
    assert 'value="Disk &amp; more"' in page  # kept in its field
    make_alerts(40, rule_name="Many", resolved_at=timezone.now(), fingerprint="m")
    page = person.get("/alerts/", {"rule": "Many", "state": "resolved"}).content.decode()
    assert "?rule=Many&amp;state=resolved&amp;page=2" in page


def test_several_are_acknowledged_at_once(person: Client) -> None:
    make_alerts(4)
    first, second, third, fourth = Alert.objects.order_by("pk")
    Alert.objects.filter(pk=third.pk).update(resolved_at=timezone.now())
    chosen = [first.pk, second.pk]
    for sent, said in (
        ({"ids": chosen, "note": " "}, "Say what you found"),
        ({"note": "on it"}, "Choose the alerts first"),
        ({"ids": [third.pk], "note": "on it"}, "That is no open alert"),
        ({"ids": ["x"], "note": "kept text"}, "kept text"),
    ):
        assert said in person.post("/alerts/acknowledge/", sent).content.decode()
    assert not Alert.objects.exclude(acknowledged_at=None).exists()
    again = person.post("/alerts/acknowledge/", {"ids": [second.pk], "note": ""}).content.decode()
    assert again.count("checked") == 1
    assert 'hx-get="/alerts/"' in again  # the list, not this address, is what is fetched anew
    page = person.post("/alerts/acknowledge/", {"ids": chosen, "note": "on it"}, follow=True).content.decode()
    assert "2 alerts acknowledged" in page
    assert set(Alert.objects.filter(acknowledged_by="anna")) == {first, second}
    assert first.entries.get().text == "on it"
    assert f'id="choose-{fourth.pk}"' in page
    assert f'id="choose-{first.pk}"' not in page


def test_statistics_count_and_time_what_fired(person: Client) -> None:
    assert "No alert fired in that time" in person.get("/alerts/statistics/").content.decode()
    now = timezone.now()
    make_alerts(3)
    make_alerts(1, rule_name="Disk", fired_at=now - timedelta(days=20), fingerprint="d")
    one, two = Alert.objects.filter(rule_name="Heat").order_by("pk")[:2]
    for alert, minutes in ((one, 5), (two, 15)):
        Alert.objects.filter(pk=alert.pk).update(fired_at=now - timedelta(hours=2))
        at = now - timedelta(hours=2) + timedelta(minutes=minutes)
        alert.entries.create(at=at, kind="acknowledged")
        alert.entries.create(at=at + timedelta(minutes=9), kind="acknowledged")  # the first one counts
    Alert.objects.filter(pk=one.pk).update(resolved_at=now - timedelta(hours=1))
    found = selectors.alert_statistics(now, 7)
    assert (found.n, found.n_open, found.n_acknowledged, found.n_resolved) == (3, 2, 2, 1)
    assert (found.acknowledged_after_s, found.resolved_after_s) == (600, 3600)
    assert found.by_severity == [("critical", 1), ("warning", 1), ("info", 1)]
    assert [(each.name, each.n, each.n_acknowledged) for each in found.noisiest] == [("Heat", 3, 2)]
    page = person.get("/alerts/statistics/?days=30").content.decode()
    assert "Disk" in page
    assert "10 min" in page
    assert "unknown" in page
    assert person.get("/alerts/statistics/?days=x").status_code == 200


def test_with_no_alert_the_list_says_so(person: Client) -> None:
    page = person.get("/alerts/").content.decode()
    assert "Nothing is wrong" in page
    assert 'class="strip' not in page


def test_the_page_of_an_alert_has_its_chart_story_and_notices(person: Client, alert: Alert) -> None:
    writer = SampleWriter(HOST, 168)
    for second in range(-20, 5):
        writer.write(alert.fired_at.timestamp() + second, {"heat_percent": 90.0 + second})
    answer = person.get(f"/alerts/{alert.pk}/")
    page = answer.content.decode()
    assert answer.status_code == 200
    chart = answer.context["chart"]
    assert [shape["y0"] for shape in chart["layout"]["shapes"][:2]] == [90, 85]
    assert [value for value in chart["data"][0]["y"] if value is not None] != []
    assert "95 %, fires at 90 %" in page
    assert "held back" in page
    assert person.get("/alerts/999999/").status_code == 404


def test_a_share_is_drawn_as_a_share(person: Client) -> None:
    make_rule(
        series="errors_per_s", aggregate="share", divisor="requests_per_s", fire_at=5, clear_at=4, window_s=5
    )
    bench, writer = Bench(), SampleWriter(HOST, 168)
    bench.now = int(timezone.now().timestamp() - T0) - 30
    for _ in range(6):
        writer.write(T0 + bench.now + 1, {"errors_per_s": 1.0, "requests_per_s": 4.0})
        bench.heat(None, errors_per_s=1.0, requests_per_s=4.0)
    chart = person.get(f"/alerts/{Alert.objects.get().pk}/").context["chart"]
    assert {value for value in chart["data"][0]["y"] if value is not None} == {25.0}


def test_without_samples_the_page_says_so(person: Client, alert: Alert) -> None:
    assert "The store has no samples" in person.get(f"/alerts/{alert.pk}/").content.decode()


def test_acknowledging_takes_a_note(person: Client, alert: Alert) -> None:
    bad = person.post(f"/alerts/{alert.pk}/acknowledge/", {"note": " ", "lasts": "3600"})
    assert bad.status_code == 200
    assert "Say what you found or what you will do." in bad.content.decode()
    bad = person.post(f"/alerts/{alert.pk}/acknowledge/", {"note": "kept text", "lasts": "17"})
    assert "kept text" in bad.content.decode()
    assert (
        person.post(f"/alerts/{alert.pk}/acknowledge/", {"note": "on it", "lasts": "3600"}).status_code == 302
    )
    alert.refresh_from_db()
    assert alert.acknowledged_by == "anna"
    assert alert.acknowledged_until is not None
    assert 3590 < (alert.acknowledged_until - timezone.now()).total_seconds() < 3601
    page = person.get("/alerts/").content.decode()
    assert "acknowledged by anna" in page
    person.post(f"/alerts/{alert.pk}/withdraw/")
    alert.refresh_from_db()
    assert alert.acknowledged_at is None


def test_notes_are_kept_and_shown_as_text(person: Client, alert: Alert) -> None:
    assert person.post(f"/alerts/{alert.pk}/note/", {"text": ""}).status_code == 200
    assert person.post(f"/alerts/{alert.pk}/note/", {"text": "x" * 1001}).status_code == 200
    person.post(f"/alerts/{alert.pk}/note/", {"text": "<b>fan</b> is dirty"})
    assert "&lt;b&gt;fan&lt;/b&gt; is dirty" in person.get(f"/alerts/{alert.pk}/").content.decode()


def test_resolving_by_hand_works_once(person: Client, alert: Alert) -> None:
    assert person.post(f"/alerts/{alert.pk}/resolve/", {"why": "false alarm"}).status_code == 302
    alert.refresh_from_db()
    assert (alert.resolved_by, alert.is_open) == ("anna", False)
    for path in ("resolve", "acknowledge", "withdraw"):
        again = person.post(f"/alerts/{alert.pk}/{path}/", {"note": "x"}, follow=True)
        assert "resolved meanwhile" in again.content.decode()
    assert person.post("/alerts/999999/resolve/").status_code == 404


def test_the_list_of_past_ones_says_who_had_seen_them(person: Client, alert: Alert) -> None:
    person.post(f"/alerts/{alert.pk}/acknowledge/", {"note": "on it"})
    services.resolve(alert.pk, who="tom", note="", now=timezone.now())
    alert.refresh_from_db()
    assert (alert.acknowledged_at, alert.acknowledged_until) == (None, None)
    row = person.get("/alerts/?state=resolved").content.decode().partition("<tbody>")[2]
    assert "anna" in row
    assert "nobody" not in row


def test_the_strip_has_the_worst_and_the_badge(person: Client, django_assert_num_queries: Any) -> None:
    make_alerts(3)
    with django_assert_num_queries(3):
        page = person.get("/alerts/strip/").content.decode()
    assert 'class="strip crit"' in page
    assert 'hx-swap-oob="true"' in page
    worst = Alert.objects.get(severity=3)
    services.acknowledge(worst.pk, who="anna", note="x", until=None, now=timezone.now())
    page = person.get("/alerts/strip/").content.decode()
    assert f"/alerts/{Alert.objects.get(severity=2).pk}/" in page
    Alert.objects.update(resolved_at=timezone.now())
    page = person.get("/alerts/strip/").content.decode()
    assert 'class="strip' not in page
    assert "hidden" in page


def test_a_silence_is_set_from_an_alert_and_ended(person: Client, alert: Alert) -> None:
    page = person.get(f"/alerts/silences/?alert={alert.pk}").content.decode()
    assert "rule=&quot;Heat&quot;" in page
    form = {
        "matchers": 'rule="Heat"\nhost=~"b.x"',
        "reason": "works",
        "lasts": "1800",
        "zone": "Europe/Berlin",
    }
    assert person.post("/alerts/silences/", form).status_code == 302
    silence = Silence.objects.get()
    assert (silence.author, round((silence.end - silence.start).total_seconds())) == ("anna", 1800)
    assert "Heat on box" in person.get("/alerts/silences/").content.decode()
    assert person.post(f"/alerts/silences/{silence.pk}/end/").status_code == 302
    silence.refresh_from_db()
    assert not silence.is_active(timezone.now())
    assert person.post("/alerts/silences/999999/end/").status_code == 404
    assert person.get("/alerts/silences/?alert=x").status_code == 200


def test_times_of_a_silence_are_the_viewers(person: Client) -> None:
    form = {"matchers": "rule=Heat", "reason": "x", "start": "2036-07-01T12:00", "end": "2036-07-01T13:30"}
    person.post("/alerts/silences/", {**form, "zone": "Europe/Berlin"})
    assert f"{Silence.objects.get().start:%H:%M}" == "10:00"
    person.post("/alerts/silences/", {**form, "zone": "../../etc/passwd"})
    assert sorted(f"{each.start:%H:%M}" for each in Silence.objects.all()) == ["10:00", "12:00"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"matchers": ""}, "Give at least one"),
        ({"matchers": "\n"}, "Give at least one"),
        ({"matchers": "rule"}, "is no matcher"),
        ({"matchers": "rule=~["}, "is no regular expression"),
        ({"reason": ""}, "Say why"),
        ({"start": "soon"}, "Give date and time"),
        ({"end": "2020-01-01T00:00"}, "That is over already"),
        ({"start": "9999-12-31T23:59"}, "Give a year from 2000 to 2999"),
        ({"end": "9999-12-31T23:59", "often": "FREQ=DAILY"}, "Give a year from 2000 to 2999"),
        ({"start": "2999-12-31T23:59"}, "Give a year from 2000 to 2999"),
        ({"start": "0001-01-01T00:00", "zone": "Pacific/Kiritimati"}, "Give a year from 2000 to 2999"),
        ({"start": "2036-01-02T00:00", "end": "2036-01-01T00:00"}, "It ends before it begins"),
        ({"lasts": "17"}, "not one of the available choices"),
    ],
)
def test_a_wrong_silence_is_said_beside_its_field(person: Client, values: dict[str, str], said: str) -> None:
    answer = person.post("/alerts/silences/", {"matchers": "rule=Heat", "reason": "kept text", **values})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert said in page
    assert values.get("reason", "kept text") in page
    assert not Silence.objects.exists()


def test_matchers_are_tried_while_they_are_typed(person: Client, alert: Alert) -> None:
    assert "Heat on box" in person.get("/alerts/silences/fits/?matchers=rule=Heat").content.decode()
    assert "no open alert" in person.get("/alerts/silences/fits/?matchers=rule=Other").content.decode()
    assert "no open alert" in person.get("/alerts/silences/fits/?matchers=").content.decode()
    assert "is no matcher" in person.get("/alerts/silences/fits/?matchers=Heat").content.decode()


@pytest.fixture
def admin(admin_client: Client) -> Client:
    return admin_client


def test_deliveries_are_looked_at_in_the_admin(admin: Client, alert: Alert) -> None:
    assert (
        Delivery.objects.get().key
        in admin.get(reverse("admin:monitoring_delivery_changelist")).content.decode()
    )
    assert admin.get(reverse("admin:monitoring_delivery_add")).status_code == 403


def test_the_admin_shows_the_strip_too(admin: Client, alert: Alert) -> None:
    for path in ("", "tuning/profile/", "tuning/profile/add/"):
        page = admin.get(f"/admin/{path}").content.decode()
        assert f'href="/alerts/{alert.pk}/"' in page
        assert "Heat" in page
    services.resolve(alert.pk, who="anna", note="", now=timezone.now())
    assert "Heat" not in admin.get("/admin/").content.decode()
    assert "alert-strip" not in Client().get("/admin/login/").content.decode()


def test_rules_are_found_in_the_admin_and_edited_on_their_form(admin: Client) -> None:
    rule = make_rule()
    page = admin.get(reverse("admin:monitoring_rule_changelist")).content.decode()
    assert reverse("admin:monitoring_rule_change", args=[rule.pk]) in page
    assert admin.get(reverse("admin:monitoring_rule_change", args=[rule.pk]))["Location"] == reverse(
        "rule", args=[rule.pk]
    )
    assert admin.get(reverse("admin:monitoring_rule_add"))["Location"] == reverse("rule-new")
    assert admin.get(reverse("admin:monitoring_rule_change", args=["x"])).status_code == 404
