"""Hours of the day and of the week are those of people: a change to or from summer time moves none."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from aicleaner_site import environment
from monitoring.analysis.study import Kind, believed_of_study, hours_of_day, study
from monitoring.analysis.usual import DAY_S, HOUR_S, WEEK_S, Usual, usual_of
from monitoring.analysis.wall_clock import wall
from monitoring.store.packing import Floats
from tests.monitoring.generated import idle

BERLIN = "Europe/Berlin"
ZONES = (BERLIN, "UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York", "Pacific/Chatham")
# Clocks in Berlin went back at 2026-10-25 01:00 UTC.
CHANGE = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp())


def at(*when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo(BERLIN)).timestamp()  # type: ignore[misc, arg-type]


@given(
    st.sampled_from(ZONES),
    st.integers(1_600_000_000, 2_000_000_000),
    st.lists(st.integers(0, 60 * DAY_S), min_size=1, max_size=20),
)
def test_the_wall_clock_is_that_of_the_zone(zone: str, first: int, later: list[int]) -> None:
    instants = [first + each for each in later]
    found = wall(np.array(instants, np.float64), zone)
    for instant, shown in zip(instants, found, strict=True):
        local = datetime.fromtimestamp(instant, UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=UTC)
        assert shown == local.timestamp()
    assert wall(float(first), zone) == wall(np.array([float(first)]), zone)


def nightly(start: int, days: int) -> Floats:
    """Minutes of a job that runs each night from three to four in Berlin."""
    times = start + 60 * (np.arange(days * 1440, dtype=np.float64) + 0.5)
    hours = wall(times, BERLIN) // HOUR_S % 24
    return np.where(hours == 3, 80.0, 20.0) + np.random.default_rng(3).normal(0, 1, len(times))


@pytest.mark.parametrize("days", [6, 28])
def test_what_is_usual_at_night_stays_at_night_over_the_change(days: int) -> None:
    start = CHANGE - CHANGE % DAY_S - days * DAY_S // 2
    minutes = nightly(start, days)
    found = usual_of(start, minutes, idle(len(minutes)), BERLIN)
    assert found is not None
    (population,) = found.populations.values()
    for night in (24, 26):  # before the change and after it
        assert population.expected(at(2026, 10, night, 3, 30)) == pytest.approx(80, abs=2)
        assert population.expected(at(2026, 10, night, 1, 30)) == pytest.approx(20, abs=2)
    assert Usual.of_json(found.as_json()).populations[0].zone == BERLIN
    old = found.as_json()
    del old["populations"][0]["zone"]  # as an earlier version kept it
    assert Usual.of_json(old).populations[0].zone == "UTC"


def test_hours_of_a_day_repeat_when_the_clock_does() -> None:
    found = hours_of_day(CHANGE + 3 * HOUR_S, 6, BERLIN).tolist()
    assert found == [0, 1, 2, 2, 3, 4]


def test_a_change_of_the_clock_is_neither_a_change_of_level_nor_of_scatter() -> None:
    end = CHANGE - CHANGE % DAY_S + 3 * DAY_S
    start = end - 9 * DAY_S
    minutes = nightly(start, 9)
    found = believed_of_study(
        study("cpu_percent", start, minutes, idle(len(minutes)), None, BERLIN).candidates
    )
    assert found == []
    # The scatter of the night's hours is compared with that of the same hours by the wall clock.
    scatter = [
        each
        for each in study("cpu_percent", start, minutes, idle(len(minutes)), None, BERLIN).candidates
        if each.kind is Kind.VOLATILITY
    ]
    assert scatter[0].facts["ratio"] == pytest.approx(1, abs=0.1)
    assert WEEK_S == 7 * DAY_S


def test_the_host_s_zone_is_told_by_setting_environment_or_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "usr/share/zoneinfo/Asia/Tokyo"
    target.parent.mkdir(parents=True)
    target.touch()
    local = tmp_path / "localtime"
    local.symlink_to(target)
    for variable in ("AICLEANER_TIME_ZONE", "TZ"):
        monkeypatch.setenv(variable, "")
    assert environment.time_zone(tmp_path / "none") == "UTC"
    monkeypatch.setenv("AICLEANER_TIME_ZONE", "")
    assert environment.time_zone(local) == "Asia/Tokyo"
    monkeypatch.setenv("AICLEANER_TIME_ZONE", "")
    monkeypatch.setenv("TZ", ":America/New_York")
    assert environment.time_zone(local) == "America/New_York"
    monkeypatch.setenv("TZ", "UTC")  # as Django leaves it to the processes that are started
    assert environment.time_zone(local) == "America/New_York"
    monkeypatch.setenv("AICLEANER_TIME_ZONE", "")
    monkeypatch.setenv("TZ", "CET-1CEST")
    assert environment.time_zone(local) == "Asia/Tokyo"
    monkeypatch.setenv("AICLEANER_TIME_ZONE", "Europe/Atlantis")
    with pytest.raises(ImproperlyConfigured, match="AICLEANER_TIME_ZONE"):
        environment.time_zone(local)
