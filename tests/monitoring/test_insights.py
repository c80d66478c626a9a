"""Findings from the store to the page: they begin, are kept up, end, and stay dismissed until they change."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from monitoring.analysis import services
from monitoring.analysis.charts import finding_chart
from monitoring.analysis.study import Kind
from monitoring.analysis.views import rule_of
from monitoring.models import Analysis, Baseline, Event, Finding
from monitoring.store.packing import Floats
from monitoring.store.rollups import CHUNK_S
from tests.monitoring.stored import store_rolled

pytestmark = pytest.mark.django_db
HOST = settings.HOST_NAME
DAY = 86_400
NOW = 1_800_000_000 - 1_800_000_000 % DAY + 3600  # an hour of samples after a whole day
CPU, DISK = "cpu_percent", "disk_used_percent{mount=/}"


def at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def noise(n: int, level: float = 40.0) -> Floats:
    return np.random.default_rng(n).normal(level, 2, n)


def record(start: int, **columns: Floats) -> None:
    store_rolled(
        HOST,
        start,
        {name.replace("disk", DISK).replace("cpu", CPU): values for name, values in columns.items()},
    )


def look(second: float) -> None:
    services.look_at_series(HOST, at(second))


@pytest.fixture
def known() -> int:
    """Two days of a CPU that does as it always does, and what is usual for it; the end of it."""
    start = NOW - NOW % CHUNK_S - 2 * DAY
    record(start, cpu=noise(2 * DAY))
    end = start + 2 * DAY
    look(end)
    assert Baseline.objects.get().series.name == CPU
    return end


@pytest.fixture
def person(client: Client) -> Client:
    client.force_login(User.objects.create_user("anna"))
    return client


def make_finding(**values: Any) -> Finding:
    facts = {
        "n": 168, "slope": 0.08, "low": 0.07, "high": 0.09, "level": 80.0, "scale": 0.1, "change": 13.4, "hours": 168.0,
        "until": NOW, "limit": 100.0, "in_h": 216.0, "soonest_h": 168.0, "latest_h": 312.0,
    }  # fmt: skip
    defaults = {
        "host": HOST, "series": DISK, "kind": Kind.FORECAST, "p": 1e-9, "size": 1 / 216, "facts": facts,
        "began_at": at(NOW - 7 * DAY), "found_at": at(NOW), "seen_at": at(NOW),
    }  # fmt: skip
    return Finding.objects.create(**{**defaults, **values})


def test_a_shift_is_found_by_the_next_look_told_once_and_ends_when_it_is_over(known: int) -> None:
    record(known, cpu=np.concatenate([noise(300), noise(600, 60.0), noise(900)]))
    look(known + 240)
    assert not Finding.objects.exists()
    for second in range(known + 300 + 240, known + 900, 60):
        look(second)
    finding = Finding.objects.get()
    assert (finding.kind, finding.series, finding.ended_at) == (Kind.ANOMALY, CPU, None)
    assert finding.found_at == at(known + 540)
    assert finding.size == pytest.approx(20, abs=1)
    assert finding.sentence.startswith("60.3 % over 3 min, above the 40 % that are usual")
    event = Event.objects.get()
    assert (event.kind, event.at) == ("insight", at(known + 540))
    assert event.text.startswith("cpu_percent 60 % over 3 min")

    for second in range(known + 1140, known + 1320, 60):
        look(second)
    finding.refresh_from_db()
    assert finding.ended_at == at(known + 1260)  # the third look that found it usual
    assert Event.objects.count() == 1


def test_what_is_unlike_its_past_does_not_become_its_past_within_a_day(known: int) -> None:
    record(known, cpu=noise(26 * 3600, 60.0))
    look(known + 300)
    before = Baseline.objects.get()
    look(known + 300 + 3 * 3600)
    assert Baseline.objects.get().at == before.at
    assert Finding.objects.get(kind=Kind.ANOMALY).is_open
    look(known + 300 + 25 * 3600)
    assert Baseline.objects.get().at > before.at


def test_a_finding_of_a_series_that_is_gone_ends(known: int) -> None:
    record(known, cpu=noise(600, 60.0))
    look(known + 600)
    assert Finding.objects.get().is_open
    look(known + 1800)
    assert Finding.objects.get().is_open  # a gap says nothing
    look(known + 600 + 3700)
    assert not Finding.objects.get().is_open


def test_a_disk_that_fills_is_forecast_kept_up_and_ends_when_it_was_cleared() -> None:
    start = NOW - NOW % CHUNK_S - 8 * DAY
    rising = 60 + 3 * np.arange(8 * DAY) / DAY + np.random.default_rng(1).normal(0, 0.05, 8 * DAY)
    record(start, disk=rising)
    end = start + 8 * DAY
    look(end)
    finding = Finding.objects.get(kind=Kind.FORECAST)
    assert finding.facts["in_h"] == pytest.approx(16 / 3 * 24, abs=4)
    assert not Event.objects.exists()  # a forecast did not happen now
    record(end, disk=np.full(2 * DAY, 30.0))
    look(end + 3600)
    finding.refresh_from_db()
    assert finding.seen_at == at(end + 3600)
    for hours in (40, 41, 42):
        look(end + hours * 3600)
    finding.refresh_from_db()
    assert not finding.is_open


def test_a_study_is_made_once_an_hour_and_says_what_it_looked_at(known: int) -> None:
    row = Analysis.objects.get()
    assert (row.studied_at, row.n_series) == (at(known), 1)
    assert row.since is not None
    assert row.since <= at(known - 2 * DAY + 300)
    look(known + 60)
    row.refresh_from_db()
    assert (row.looked_at, row.studied_at) == (at(known + 60), at(known))
    look(known - 7200)  # the clock was set back
    row.refresh_from_db()
    assert row.studied_at == at(known - 7200)


def test_nothing_recorded_is_no_error_and_says_so(person: Client) -> None:
    assert "Nothing can be said yet" in person.get(reverse("insights")).content.decode()
    look(NOW)
    page = person.get(reverse("insights")).content.decode()
    assert "Nothing is recorded so far" in page
    assert "Not known yet" in person.get(reverse("insights-usual")).content.decode()


def test_a_quiet_host_says_what_was_looked_at_and_since_when(person: Client, known: int) -> None:
    page = person.get(reverse("insights")).content.decode()
    assert "Nothing stands out" in page
    assert "Benjamini-Hochberg" in page
    assert f"{at(known - 2 * DAY):%Y-%m-%d %H:%M} UTC" in page
    usual = person.get(reverse("insights-usual")).content.decode()
    assert CPU in usual
    assert "0.3 weeks" in usual
    assert f"those of {settings.HOST_TIME_ZONE}, the time zone of this host" in usual


def test_findings_are_grouped_filtered_and_asked_for_in_few_queries(
    person: Client, django_assert_max_num_queries: Any
) -> None:
    make_finding()
    for number in range(20):
        make_finding(series=f"disk_used_percent{{mount=/{number}}}")
    with django_assert_max_num_queries(8):
        page = person.get(reverse("insights")).content.decode()
    assert "Heading somewhere" in page
    assert 'id="group-now"' not in page
    assert "reaches 100 % in 9 d, between 7 d and 13 d" in page
    assert "Delete models or old data" in page
    assert (
        "mount=/7}" not in person.get("/insights/?series=mount=/8").content.decode().partition("</form>")[2]
    )
    assert "No such findings" in person.get("/insights/?group=now").content.decode()
    assert "Select a valid choice" in person.get("/insights/?group=nonsense").content.decode()


def test_a_finding_is_dismissed_with_a_reason_and_hidden_until_it_changes(person: Client) -> None:
    finding = make_finding()
    address = reverse("finding-dismiss", args=[finding.pk])
    assert "Say why" in person.post(address, {"why": " "}).content.decode()
    finding.refresh_from_db()
    assert finding.dismissed_at is None

    assert person.post(address, {"why": "the old disk"}).status_code == 302
    assert "mount=/}" not in person.get(reverse("insights")).content.decode()
    dismissed = person.get("/insights/?show=dismissed").content.decode()
    assert "dismissed by anna: the old disk" in dismissed
    assert person.post(reverse("finding-show", args=[finding.pk])).status_code == 302
    assert "mount=/}" in person.get(reverse("insights")).content.decode()


@pytest.mark.parametrize(
    ("then", "now", "changed"),
    [(2, 2.9, False), (2, 3, True), (2, -2, True), (2, 0.1, False), (-2, -3.5, True)],
)
def test_a_finding_changes_when_it_turns_round_or_grows_by_half(
    then: float, now: float, changed: bool
) -> None:
    assert services.has_changed(then, now) is changed


def test_a_dismissed_anomaly_comes_back_when_it_grows(known: int) -> None:
    record(known, cpu=np.concatenate([noise(600, 60.0), noise(600, 95.0)]))
    look(known + 300)
    services.dismiss(Finding.objects.get().pk, who="anna", why="a test", now=at(known + 300))
    look(known + 600)
    assert Finding.objects.get().dismissed_by == "anna"
    look(known + 900)
    assert Finding.objects.get().dismissed_at is None


def test_an_ended_finding_is_not_dismissed_any_more(person: Client) -> None:
    finding = make_finding(ended_at=at(NOW))
    answer = person.post(reverse("finding-dismiss", args=[finding.pk]), {"why": "late"}, follow=True)
    assert "has ended meanwhile" in answer.content.decode()
    finding.refresh_from_db()
    assert finding.dismissed_at is None
    assert person.post("/insights/999/dismiss/", {"why": "x"}).status_code == 404


def test_ended_findings_are_kept_a_while_and_then_deleted() -> None:
    make_finding(ended_at=at(NOW - 91 * DAY))
    kept = make_finding(ended_at=at(NOW - 89 * DAY))
    look(NOW)
    assert list(Finding.objects.all()) == [kept]


def test_every_page_asks_for_a_login_and_changes_only_by_post(client: Client) -> None:
    finding = make_finding()
    for name, args in (("insights", []), ("insights-usual", []), ("finding", [finding.pk])):
        assert client.get(reverse(name, args=args))["Location"].startswith("/login/")
    for name in ("finding-dismiss", "finding-show"):
        address = reverse(name, args=[finding.pk])
        assert client.post(address, {"why": "x"})["Location"].startswith("/login/")
        client.force_login(User.objects.get_or_create(username="anna")[0])
        assert client.get(address).status_code == 405
        client.logout()


def test_the_page_of_a_finding_shows_its_evidence_and_a_rule_of_it(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    start = NOW - NOW % CHUNK_S - 7 * DAY
    record(start, disk=60 + np.arange(7 * DAY) / DAY)
    finding = make_finding()
    answer = client.get(reverse("finding", args=[finding.pk]))
    page = answer.content.decode()
    assert "Theil-Sen slope of 168 points over 7 d" in page
    assert "p = 1e-09" in page
    chart = answer.context["chart"]
    assert chart["layout"]["xaxis"]["range"][1] == (NOW + 312 * 3600) * 1000
    history = client.get(answer.context["history_url"])
    assert history.status_code == 200
    assert "mount=/}" in history.content.decode()
    form = client.get(answer.context["rule_url"]).content.decode()
    assert 'value="disk_used_percent{mount=/}"' in form
    assert 'value="forecast" selected' in form


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_chart_of_its_time(kind: Kind) -> None:
    start = NOW - NOW % CHUNK_S - 9 * DAY
    record(start, disk=noise(9 * DAY))
    end = start + 9 * DAY
    extra: dict[Kind, dict[str, Any]] = {
        Kind.ANOMALY: {"state": 0, "low": 35.0, "high": 45.0},
        Kind.CHANGE: {"since": end - 7 * DAY, "before": 40.0, "after": 45.0},
        Kind.TREND: {"limit": None},
    }
    finding = make_finding(kind=kind, began_at=at(end - DAY))
    finding.facts |= {"until": end, **extra.get(kind, {})}
    if kind is Kind.TREND:
        del finding.facts["in_h"], finding.facts["latest_h"]
    chart = finding_chart(finding, at(end))
    assert chart is not None
    assert all(len(each["x"]) == len(each["y"]) >= 2 for each in chart["data"])
    assert chart["data"][0]["type"] == "scatter"
    finding.series = "gone"
    assert finding_chart(finding, at(end)) is None


def test_a_rule_of_a_finding_watches_for_the_same(known: int) -> None:
    anomaly = make_finding(kind=Kind.ANOMALY, series=CPU, facts={})
    assert (rule_of(anomaly)["kind"], rule_of(anomaly)["series"]) == ("deviation", CPU)
    assert timedelta(seconds=int(rule_of(make_finding())["window_s"])) == timedelta(hours=6)


@pytest.mark.parametrize(
    ("kind", "size", "slope", "side"),
    [
        (Kind.FORECAST, 0.1, 2.0, "above"),
        (Kind.FORECAST, 0.1, -2.0, "below"),
        (Kind.TREND, -2.0, -2.0, "below"),
        (Kind.CHANGE, 5.0, 0.0, "above"),
        (Kind.CHANGE, -5.0, 0.0, "below"),
        (Kind.ANOMALY, -9.0, 0.0, "below"),
        (Kind.VOLATILITY, -1.0, 0.0, "either"),
    ],
)
def test_a_rule_of_a_finding_watches_its_side(
    client: Client, kind: Kind, size: float, slope: float, side: str
) -> None:
    client.force_login(User.objects.create_superuser("root"))
    finding = make_finding(kind=kind, size=size)
    finding.facts |= {"slope": slope}
    form = client.get(f"{reverse('rule-new')}?{urlencode(rule_of(finding))}").context["form"]
    assert form["side"].value() == side
    assert f'value="{side}" selected' in str(form["side"])
