"""Series that begin to be strange together are one incident: one row, one event, one dismissal, until the last is over."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from monitoring.analysis import selectors, services
from monitoring.analysis.study import Candidate, Kind
from monitoring.models import Analysis, Event, Finding

pytestmark = pytest.mark.django_db
HOST = settings.HOST_NAME
T0 = 1_790_000_000
NAMES = (
    "cpu_percent",
    "gpu_power_w{gpu=0}",
    "gpu_temperature_celsius{gpu=0}",
    "load1",
    "gateway_ttft_p95_ms",
)


def at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def anomaly(series: str, began: int = T0, p: float = 1e-9, size: float = 20.0) -> Candidate:
    facts = {
        "value": 60.0, "expected": 40.0, "z": size / 2, "state": 0, "by_hour": 0, "alone": True, "n": 900, "weeks": 1.0,
        "low": 35.0, "high": 45.0, "is_usual": False,
    }  # fmt: skip
    return Candidate(Kind.ANOMALY, series, p, True, size, began, facts)


def change(series: str, began: int) -> Candidate:
    return Candidate(Kind.CHANGE, series, 1e-9, True, 9.0, began, {"before": 40.0, "after": 49.0, "n": 168})


def find(*candidates: Candidate, now: int = T0 + 180) -> None:
    services._keep(candidates, HOST, at(now))


def named(series: str) -> Finding:
    return Finding.objects.get(series=series)


def leading() -> list[str]:
    return list(Finding.objects.filter(leader=None).order_by("pk").values_list("series", flat=True))


@pytest.fixture
def person(client: Client) -> Client:
    client.force_login(User.objects.create_user("anna"))
    return client


def test_what_begins_together_is_one_incident_with_one_event() -> None:
    find(anomaly(NAMES[0], p=1e-6), anomaly(NAMES[1], p=1e-12), anomaly(NAMES[2], p=1e-8))
    find(anomaly(NAMES[3], T0 + 240), now=T0 + 420)
    assert leading() == [NAMES[1]]  # the least likely of those that began first
    assert Finding.objects.filter(leader=named(NAMES[1])).count() == 3
    assert [each.text.partition(" ")[0] for each in Event.objects.all()] == [NAMES[1]]
    find(anomaly(NAMES[4], T0 + 301), now=T0 + 480)  # later: another one
    assert leading() == [NAMES[1], NAMES[4]]
    assert Event.objects.count() == 2


def test_another_host_another_kind_and_an_ended_incident_are_apart() -> None:
    find(anomaly(NAMES[0]))
    services._keep([anomaly(NAMES[1])], "other", at(T0 + 180))
    find(change(NAMES[2], T0))
    assert Finding.objects.filter(leader=None).count() == 3
    services._end(named(NAMES[0]), at(T0 + 200))
    find(anomaly(NAMES[3], T0 + 60), now=T0 + 240)
    assert named(NAMES[3]).leader is None


def test_changes_of_level_within_an_hour_are_one() -> None:
    find(change(NAMES[0], T0), change(NAMES[1], T0 + 3600), change(NAMES[2], T0 + 7200))
    assert leading() == [NAMES[0], NAMES[2]]


def test_the_next_one_leads_when_the_leading_one_is_over() -> None:
    find(anomaly(NAMES[0], p=1e-12), anomaly(NAMES[1]), anomaly(NAMES[2]))
    stale = {each.series: each for each in Finding.objects.all()}  # as a look has read them
    services._end(stale[NAMES[0]], at(T0 + 600))
    assert leading() == [NAMES[1]]
    services._see(stale[NAMES[1]], anomaly(NAMES[1]), at(T0 + 660))
    assert leading() == [NAMES[1]]
    services._end(stale[NAMES[1]], at(T0 + 700))
    services._end(stale[NAMES[2]], at(T0 + 700))
    assert leading() == [NAMES[2]]
    assert {each.series for each in selectors.incident_of(named(NAMES[0]))} == set(NAMES[:3])
    assert [each.series for each in selectors.filtered_findings(HOST, {"show": "ended"})] == [NAMES[2]]


@given(st.permutations(range(5)))
@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_whatever_order_they_end_one_leads_as_long_as_one_is_open(order: list[int]) -> None:
    Finding.objects.all().delete()
    find(*(anomaly(name) for name in NAMES))
    stale = {each.series: each for each in Finding.objects.all()}
    for number, place in enumerate(order):
        services._end(stale[NAMES[place]], at(T0 + 600))
        (leader,) = Finding.objects.filter(leader=None)
        assert leader.members.count() == 4
        assert leader.is_open is (number < 4)


def test_the_page_has_one_row_of_it_and_is_found_by_any_of_its_names(
    person: Client, django_assert_max_num_queries: Any
) -> None:
    find(*(anomaly(name, p=10.0 ** -(12 - n)) for n, name in enumerate(NAMES)))
    with django_assert_max_num_queries(9):
        page = person.get(reverse("insights")).content.decode()
    assert page.count('<li class="in-now">') == 1
    assert "<em>1</em>" in page
    assert "One incident with 4 others" in page
    assert page.count("load1") == 1
    assert 'class="in-now"' in person.get("/insights/?series=load1").content.decode()
    assert 'class="in-now"' not in person.get("/insights/?series=swap").content.decode()
    member = person.get(reverse("finding", args=[named("load1").pk])).content.decode()
    assert "of 5 series that changed together" in member
    assert "Dismiss the incident" in member
    address = person.get(reverse("finding", args=[named("load1").pk])).context["history_url"]
    assert parse_qs(urlsplit(address).query)["series"] == [
        "load1",
        *(each for each in NAMES if each != "load1"),
    ]


def test_an_incident_is_dismissed_and_comes_back_as_a_whole(person: Client) -> None:
    Analysis.objects.create(host=HOST)
    find(anomaly(NAMES[0], p=1e-12), anomaly(NAMES[1]))
    address = reverse("finding-dismiss", args=[named(NAMES[1]).pk])
    assert person.post(address, {"why": "a test"}).status_code == 302
    assert set(Finding.objects.values_list("dismissed_by", flat=True)) == {"anna"}
    assert "1 hidden until" in person.get(reverse("insights")).content.decode()
    find(anomaly(NAMES[1], size=29.0), now=T0 + 240)
    assert Finding.objects.filter(dismissed_at=None).count() == 0
    find(anomaly(NAMES[1], size=31.0), now=T0 + 300)  # half as much again
    assert Finding.objects.filter(dismissed_at=None).count() == 2
    person.post(address, {"why": "a test"})
    find(anomaly(NAMES[2], T0 + 200), now=T0 + 360)  # another series joins it
    assert Finding.objects.filter(dismissed_at=None).count() == 3
    person.post(address, {"why": "a test"})
    assert person.post(reverse("finding-show", args=[named(NAMES[0]).pk])).status_code == 302
    assert Finding.objects.filter(dismissed_at=None).count() == 3


def test_members_that_are_old_are_deleted_with_their_incident() -> None:
    find(anomaly(NAMES[0]), anomaly(NAMES[1]))
    for name in NAMES[:2]:
        services._end(named(name), at(T0 + 600))
    services.look_at_series(HOST, at(T0 + 600) + timedelta(days=91))
    assert not Finding.objects.exists()
