"""Silences that come again: by the clock of their zone, over changes of the clock, and told once after each."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerts import services, transfer
from monitoring.alerts.recurrence import RecurrenceError, parse_rule, windows, zone_of
from monitoring.models import Alert, Delivery, Silence
from tests.monitoring.alerting import Bench, TestChannel, at, make_rule, only_channel

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
HOUR = 3600


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def shown(found: list[tuple[datetime, datetime]], zone: ZoneInfo = BERLIN) -> list[str]:
    return [
        f"{a.astimezone(zone):%m-%d %H:%M} {b.astimezone(zone):%H:%M} {(b - a).total_seconds() / HOUR:g}"
        for a, b in found
    ]


def test_a_window_keeps_its_time_on_the_clock_over_the_year() -> None:
    found = windows(
        "FREQ=WEEKLY", BERLIN, wall("2027-03-20T22:00"), 8 * HOUR, utc("2027-03-20"), utc("2027-04-06"), 9
    )
    assert shown(found) == [
        "03-20 22:00 06:00 8",
        "03-27 22:00 06:00 7",
        "04-03 22:00 06:00 8",
    ]  # the night of the leap
    found = windows(
        "FREQ=DAILY", BERLIN, wall("2027-10-29T22:00"), 8 * HOUR, utc("2027-10-29"), utc("2027-11-01"), 9
    )
    assert shown(found) == ["10-29 22:00 06:00 8", "10-30 22:00 06:00 9", "10-31 22:00 06:00 8"]


def test_a_time_that_the_clock_leaps_over_is_the_moment_of_the_leap() -> None:
    found = windows(
        "FREQ=DAILY", BERLIN, wall("2027-03-27T02:30"), HOUR, utc("2027-03-27"), utc("2027-03-29"), 9
    )
    assert (
        shown(found) == ["03-27 02:30 03:30 1", "03-28 03:00 03:30 0.5", "03-29 02:30 03:30 1"][: len(found)]
    )
    assert len(found) == 2
    # Of an hour that comes twice the first counts.
    found = windows(
        "FREQ=DAILY",
        NEW_YORK,
        wall("2027-11-06T01:30", NEW_YORK),
        1800,
        utc("2027-11-07"),
        utc("2027-11-08"),
        9,
    )
    assert [each[0] for each in found] == [utc("2027-11-07T05:30")]


def test_of_a_rule_without_end_only_the_first_windows_are_reckoned() -> None:
    start, end = utc("2026-01-01"), utc("2999-12-31")
    found = windows("FREQ=DAILY", BERLIN, start, HOUR, start, end, 2)
    assert found == [
        (start, start + timedelta(hours=1)),
        (start + timedelta(days=1), start + timedelta(hours=25)),
    ]


@given(
    st.integers(0, 2 * 365 * 24 * 60).map(lambda minutes: utc("2026-01-01") + timedelta(minutes=minutes)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    st.sampled_from(
        ["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SA,SU", "FREQ=MONTHLY;BYDAY=1SU", "FREQ=DAILY;INTERVAL=3;COUNT=5"]
    ),
    st.integers(60, 3 * 24 * HOUR),
    st.integers(0, 40 * 24 * 60),
)
def test_an_instant_is_in_a_window_of_a_wide_look_if_it_is_in_one_of_a_narrow_look(
    start: datetime, name: str, rule: str, length_s: int, minutes: int
) -> None:
    zone, first = ZoneInfo(name), start
    now = first + timedelta(minutes=minutes)
    wide = windows(rule, zone, first, length_s, first - timedelta(days=1), now + timedelta(days=10), 99)
    narrow = windows(rule, zone, first, length_s, now, now + timedelta(microseconds=1), 99)
    assert narrow == [each for each in wide if each[0] <= now < each[1]]
    for begin, end in wide:
        assert begin < end
        assert abs((end - begin).total_seconds() - length_s) <= HOUR
        assert begin >= first - timedelta(hours=1)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "needs FREQ"),
        ("FREQ=SECONDLY", "needs FREQ"),
        ("FREQ=HOURLY", "needs FREQ"),
        ("FREQ=DAILY;BYHOUR=3", "leave BYHOUR"),
        ("FREQ=DAILY;UNTIL=20270101T000000Z", "without Z"),
        ("FREQ=DAILY;BYMONTH=2,4;BYMONTHDAY=31", "none of these months"),
        ("FREQ=DAILY;COUNT=3;UNTIL=20280101", "not both"),
        ("FREQ=DAILY;BYDAY=MO;BYSETPOS=2", "BYSETPOS picks"),
        ("FREQ=DAILY;BYDAY=XX", "no RRULE"),
        ("FREQ=DAILY;FOO=1", "no RRULE"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL is"),
    ],
)
def test_a_wrong_rrule_is_said(rule: str, said: str) -> None:
    with pytest.raises(RecurrenceError, match=said):
        parse_rule(rule, utc("2027-01-01").replace(tzinfo=None))
    with pytest.raises(RecurrenceError, match="no time zone"):
        zone_of("Mars/Olympus")


@pytest.fixture
def channel() -> Iterator[TestChannel]:
    channel = TestChannel()
    with only_channel(channel):
        yield channel


@pytest.mark.django_db
def test_each_window_holds_back_and_what_still_fires_after_it_is_told_once(channel: TestChannel) -> None:
    make_rule(repeat_s=0)
    bench = Bench()
    silence = Silence(
        matchers="rule=Heat", start=at(0), end=at(30 * 24 * HOUR), author="sam", reason="nights",
        rrule="FREQ=DAILY", zone="Europe/Berlin", length_s=HOUR, told_to=at(0),
    )  # fmt: skip
    silence.full_clean()
    services.create_silence(silence)
    bench.heat(95)
    bench.work()
    assert (channel.events, Delivery.objects.get().status) == ([], "suppressed")
    bench.work(HOUR)
    bench.work()
    assert channel.events == ["fired"]  # between the windows
    bench.work(24 * HOUR - 100)
    assert silence.is_active(bench.clock())
    assert channel.events == ["fired"]
    bench.work(200)
    bench.work()
    assert channel.events == ["fired", "repeat"]
    bench.restart()
    bench.work(HOUR)
    assert channel.events == ["fired", "repeat"]
    services.end_silence(silence.pk, now=bench.clock())
    bench.work(24 * HOUR - HOUR)
    assert not Silence.objects.get().is_active(bench.clock())
    assert Silence.objects.get().closed
    assert channel.events == ["fired", "repeat"]


@pytest.mark.django_db
def test_who_was_told_of_a_fire_hears_after_the_silence_that_it_is_over(channel: TestChannel) -> None:
    make_rule(repeat_s=0)
    bench = Bench()
    bench.heat(95)
    bench.work()
    for start, end in ((1, 100), (50, 200)):  # the second begins after the end of the alert, and ends last
        services.create_silence(
            Silence(matchers="rule=Heat", start=at(start), end=at(end), author="sam", reason="works")
        )
    bench.heat(95, 50)
    bench.now = 30
    bench.heat(95, 50)  # it begins and ends in the silence: nobody was told, nobody hears of its end
    bench.work(100)
    assert channel.events == ["fired"]
    bench.work(100)
    assert channel.events == ["fired"]  # four changes in so short a time: it flaps
    bench.now = 1000
    bench.heat(50)
    bench.work()
    assert channel.events == ["fired", "resolved"]
    assert channel.got[1].text == "Heat on box: resolved 16 min 38 s ago, after 2 s, worst 95 %"
    bench.work(1000)
    assert len(channel.got) == 2


@pytest.mark.django_db
def test_after_a_silence_the_end_of_one_episode_is_told_before_the_beginning_of_the_next(
    channel: TestChannel,
) -> None:
    make_rule(repeat_s=0)
    bench = Bench()
    bench.heat(95)
    bench.work()
    services.create_silence(
        Silence(matchers="rule=Heat", start=at(1), end=at(100), author="sam", reason="works")
    )
    bench.heat(50, 95)
    bench.work(100)
    assert channel.events == ["fired", "resolved", "fired"]
    assert [each.alert_id for each in channel.got] == sorted(each.alert_id for each in channel.got)


@pytest.mark.django_db
def test_what_ends_in_one_window_of_many_is_told_once(channel: TestChannel) -> None:
    make_rule(repeat_s=0)
    bench = Bench()
    services.create_silence(
        Silence(
            matchers="rule=Heat", start=at(100), end=at(30 * 24 * HOUR), author="sam", reason="nights",
            rrule="FREQ=DAILY", zone="Europe/Berlin", length_s=HOUR, told_to=at(0),
        )
    )  # fmt: skip
    bench.heat(95)
    bench.work()
    bench.now = 200
    bench.heat(50)
    bench.work()
    assert channel.events == ["fired"]
    bench.work(HOUR)
    assert channel.events == ["fired", "resolved"]
    for _ in range(3):
        bench.work(24 * HOUR)
    assert channel.events == ["fired", "resolved"]


FORM = {"matchers": "rule=Heat", "reason": "works", "lasts": "3600", "zone": "Europe/Berlin"}


@pytest.fixture
def person(client: Client) -> Client:
    client.force_login(User.objects.create_user("anna"))
    return client


@pytest.mark.django_db
def test_a_repeating_silence_is_set_shown_and_exported(person: Client) -> None:
    typed = {
        **FORM,
        "often": "FREQ=WEEKLY;BYDAY=SA,SU",
        "start": "2036-07-01T22:00",
        "end": "2036-12-31T00:00",
    }
    assert person.post("/alerts/silences/", typed).status_code == 302
    silence = Silence.objects.get()
    assert (silence.rrule, silence.zone, silence.length_s) == (
        "FREQ=WEEKLY;BYDAY=SA,SU",
        "Europe/Berlin",
        HOUR,
    )
    found = silence.windows(utc("2036-07-01"), silence.end, 2)
    assert shown(found) == ["07-05 22:00 23:00 1", "07-06 22:00 23:00 1"]
    page = person.get("/alerts/silences/").content.decode()
    assert "by the clock of Europe/Berlin" in page
    assert "2036-07-05T20:00:00+00:00" in page
    text = transfer.write(timezone.now())
    assert {
        each.status for each in transfer.read(text, who="x", now=timezone.now()) if each.what == "silence"
    } == {"same"}
    Silence.objects.all().delete()
    transfer.take(transfer.read(text, who="x", now=timezone.now()), who="x", now=timezone.now())
    back = Silence.objects.get()
    assert back.windows(utc("2036-07-01"), back.end, 2) == found


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"often": "own"}, "rrule", "Give an RRULE"),
        ({"often": "own", "rrule": "FREQ=HOURLY"}, "rrule", "needs FREQ"),
        ({"often": "own", "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule", "never happens"),
        ({"often": "sometimes"}, "often", "not one of the available"),
    ],
)
def test_a_wrong_repetition_is_said_beside_its_field(
    person: Client, values: dict[str, Any], field: str, said: str
) -> None:
    answer = person.post("/alerts/silences/", {**FORM, **values})
    assert said in " ".join(answer.context["form"].errors[field])
    assert not Silence.objects.exists()


@pytest.mark.django_db
def test_the_preview_of_a_silence_says_what_and_when(person: Client) -> None:
    make_rule()
    bench = Bench()
    bench.now = timezone.now().timestamp() - at(0).timestamp() - 60
    bench.heat(95, 50, 95)
    assert Alert.objects.count() == 2
    typed = {**FORM, "often": "FREQ=DAILY", "start": "2036-07-01T22:00", "end": "2036-12-31T00:00"}
    page = person.get("/alerts/silences/fits/", typed).content.decode()
    assert "Heat on box" in page
    assert "Fits 2 alerts of the last 7 days" in " ".join(page.split())
    assert "2036-07-01T20:00:00+00:00" in page
    wrong = person.get(
        "/alerts/silences/fits/", {**typed, "often": "own", "rrule": "FREQ=x"}
    ).content.decode()
    assert "needs FREQ" in wrong
