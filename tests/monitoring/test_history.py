"""The history page's server side: what may be asked, from which tier it is answered, gaps, summaries, files."""

import csv
import io
import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitoring import services
from monitoring.history import exports, selectors
from monitoring.history.groups import CHARTS, group_of, labels_in
from monitoring.history.parameters import DAY, LEAST_S, MAX_LINES, MOST_S, RANGES, View, ViewForm, iso
from monitoring.history.summary import quantile, summarize
from monitoring.models import Alert
from monitoring.services import SampleWriter
from monitoring.store.retention import HOUR
from monitoring.store.rollups import Buckets
from tests.bench.month import Rows, generate, store

NOW = 1_800_000_000 - 1_800_000_000 % HOUR
NAMES = {
    "box": [
        "cpu_percent",
        "disk_used_percent{mount=/}",
        "disk_used_percent{mount=/data}",
        "memory_used_percent",
    ],
    "attic": ["cpu_percent"],
}


def form(query: str, names: dict[str, list[str]] = NAMES, now: float = NOW) -> ViewForm:
    return ViewForm(QueryDict(query), catalogue=names, own_host="box", now=now)


def valid(query: str, names: dict[str, list[str]] = NAMES) -> View:
    asked = form(query, names)
    assert asked.is_valid(), asked.errors
    return asked.view()


def view(query: str, now: float = NOW) -> View:
    asked = form(query, dict(selectors.catalogue()), now)
    assert asked.is_valid(), asked.errors
    return asked.view()


def drawn(view: View, now: float) -> Any:
    """What the page gets."""
    return orjson.loads(orjson.dumps(selectors.charts(view, now), option=orjson.OPT_SERIALIZE_NUMPY))


# what may be asked


@given(st.floats(LEAST_S + 1, MOST_S - 1), st.floats(0, 5 * 365 * DAY))
def test_any_time_from_five_minutes_to_a_year_is_taken_as_it_is(span_s: float, ago_s: float) -> None:
    end = int(NOW - ago_s)
    start = end - int(span_s)
    asked = form(f"from={iso(start)}&to={iso(end)}")
    assert asked.is_valid(), asked.errors
    found = asked.view()
    assert (found.start, found.end, found.range) == (start, end, "")


@given(
    st.dictionaries(
        st.sampled_from(["range", "from", "to", "zone", "host", "series", "compare", "band"]),
        st.text(max_size=60)
        | st.datetimes().map(str)
        | st.sampled_from(
            ["1h", "2026-01-01", "0001-01-01T00:00", "9999-12-31T23:59:59+14:00", "day", "off", "box"]
        ),
    )
)
def test_whatever_is_asked_gives_a_view_within_bounds_or_names_the_field(parameters: dict[str, str]) -> None:
    query = QueryDict(mutable=True)
    query.update(parameters)
    asked = form(query.urlencode())
    if asked.is_valid():
        found = asked.view()
        assert LEAST_S <= found.end - found.start <= MOST_S
        assert len(found.lines) <= MAX_LINES
    else:
        assert set(asked.errors) <= {*parameters, "from", "to"}
        assert all(said for said in asked.errors.values())


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("range=2h", "range", "not one of the available choices"),
        ("range=1h&from=2026-01-01T00:00Z", "range", "either a range or times"),
        ("from=yesterday", "from", "such as 2026-01-31T18:30"),
        ("from=2026-13-01", "from", "such as 2026-01-31T18:30"),
        ("from=1999-01-01", "from", "year from 2000"),
        ("to=2026-01-01T00:00Z", "from", "Give the beginning too"),
        ("from=2150-01-01", "from", "still to come"),
        ("from=2026-01-02&to=2026-01-01", "to", "ends before it begins"),
        ("from=2026-01-02T10:00Z&to=2026-01-02T10:04:59Z", "to", "Less than 5 minutes"),
        ("from=2020-01-01&to=2026-01-01", "from", "More than a year"),
        ("host=cellar", "host", "No host is called 'cellar'. Recorded are: box, attic."),
        ("compare=year", "compare", "not one of the available choices"),
        ("band=yes", "band", "not one of the available choices"),
        ("series=" + "x" * 201, "series", "at most 200 characters"),
        ("&".join(f"series=s{n}" for n in range(61)), "series", "At most 60 series; these are 61."),
        ("&".join(f"host=h{n}" for n in range(9)), "host", "At most 8 hosts; these are 9."),
    ],
)  # fmt: skip
def test_what_can_t_be_asked_is_refused_by_the_name_of_its_field(query: str, field: str, said: str) -> None:
    asked = form(query)
    assert not asked.is_valid()
    assert list(asked.errors) == [field]
    assert said in asked.errors[field][0]


def test_more_lines_than_a_person_can_read_are_refused() -> None:
    names = {"box": [f"cpu_core_percent{{core={n}}}" for n in range(MAX_LINES + 1)]}
    asked = form("series=cpu_core_percent", names)
    assert f"At most {MAX_LINES} lines; these are {MAX_LINES + 1}" in asked.errors["series"][0]


def test_times_without_an_offset_are_the_viewer_s_wall_clock() -> None:
    found = valid("from=2026-07-01T12:00&to=2026-07-01T13:00&zone=Europe/Berlin")
    assert found.start == datetime(2026, 7, 1, 10, tzinfo=UTC).timestamp()
    assert valid("from=2026-07-01T12:00&zone=No/Where").start == found.start + 2 * HOUR


def test_a_metric_means_all_its_devices_on_all_chosen_hosts() -> None:
    found = valid("host=box&host=attic&series=disk_used_percent&series=cpu_percent&series=nope")
    box = ("disk_used_percent{mount=/}", "disk_used_percent{mount=/data}", "cpu_percent")
    assert found.lines == (*(("box", name) for name in box), ("attic", "cpu_percent"))
    assert found.missing == ("nope",)


def test_asked_nothing_the_default_is_what_is_there_of_this_host() -> None:
    found = valid("")
    assert (found.hosts, found.series, found.range) == (
        ("box",),
        ("cpu_percent", "memory_used_percent"),
        "1h",
    )
    assert found.missing == ()
    assert found.end - found.start == HOUR
    assert valid("series=").lines == ()
    assert valid("", {}).hosts == ()


# charts


def test_every_metric_has_one_chart_of_one_unit() -> None:
    metrics = [
        "cpu_percent",
        "cpu_core_percent",
        "disk_read_bytes_per_s",
        "disk_used_percent",
        "load1",
        "new_thing_ms",
    ]
    assert [group_of(each).title for each in metrics] == [
        "CPU",
        "CPU cores",
        "Disk traffic",
        "Disk fill",
        "Load",
        "New",
    ]
    assert group_of("gateway_tokens_per_s").unit == "tokens/s"
    for title, patterns in CHARTS:
        assert len({group_of(each.replace("*", "x")).unit for each in patterns}) == 1, title


def test_a_line_is_called_by_what_tells_it_from_its_neighbours() -> None:
    names = ["disk_read_bytes_per_s{device=sda}", "disk_write_bytes_per_s{device=sda}"]
    assert list(labels_in(names).values()) == ["read sda", "write sda"]
    assert list(labels_in(names[:1]).values()) == ["sda"]
    assert list(labels_in(["gpu_util_percent{gpu=1}"]).values()) == ["gpu 1"]


def test_no_two_lines_of_a_chart_are_called_alike() -> None:
    from aicleaner_site.live_page import METRICS

    assert group_of("gpu_joules_per_token").unit == "J"
    charts: dict[Any, list[str]] = {}
    for metric in {
        *METRICS,
        "memory_available_bytes",
        "swap_total_bytes",
        "gpu_memory_total_bytes",
        "gpu_power_limit_w",
    }:
        name = f"{metric}{{gpu=0}}" if metric.startswith("gpu") else metric
        charts.setdefault(group_of(metric), []).append(name)
    for names in charts.values():
        labels = list(labels_in(names).values())
        assert len(set(labels)) == len(labels), labels
        assert all(labels)


# summaries


@given(
    hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e6, 1e6)),
    st.data(),
    st.sampled_from([0.5, 0.95, 0.99]),
)
def test_the_quantile_is_that_of_the_samples_written_out(values: np.ndarray, data: Any, q: float) -> None:
    weights = data.draw(hnp.arrays(np.int64, len(values), elements=st.integers(1, 9)))
    written_out = np.quantile(np.repeat(values, weights), q, method="inverted_cdf")
    assert quantile(values, weights.astype(float), q) == written_out


def test_of_nothing_a_summary_says_nothing() -> None:
    found = summarize(Buckets.empty(5), 0, 60, 300)
    assert (found.low, found.mean, found.p95, found.high, found.last, found.present) == (None,) * 5 + (0.0,)


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e9, 1e9) | st.just(float("nan"))))
def test_rounding_keeps_five_digits_and_unknown_unknown(values: np.ndarray) -> None:
    found = selectors.rounded(values)
    for value, kept in zip(values, found, strict=True):
        assert np.isnan(kept) == np.isnan(value)
        if not np.isnan(kept):
            assert kept == pytest.approx(value, rel=5.1e-5)
            if abs(value) > 1e-9:
                assert float(kept) == float(f"{kept:.5g}")  # short in JSON


@pytest.mark.django_db
def test_a_summary_of_raw_seconds_is_that_of_the_samples() -> None:
    random = np.random.default_rng(1)
    values = np.round(random.random(HOUR) * 100, 2)
    writer = SampleWriter("box", 168)
    there = random.random(HOUR) < 0.7
    for second in np.flatnonzero(there):
        writer.write(NOW - HOUR + int(second), {"cpu_percent": float(values[second])})
    found = drawn(view(f"from={iso(NOW - HOUR)}&to={iso(NOW)}&series=cpu_percent"), NOW)
    summary, known = found["charts"][0]["lines"][0]["summary"], values[there]
    assert found["tier"] == 1
    assert found["p95"] == "p95 is of the 1 s samples."
    expected = {"low": known.min(), "mean": known.mean(), "high": known.max(), "last": known[-1]}
    expected["p95"] = np.quantile(known, 0.95, method="inverted_cdf")
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, rel=3e-4), name
    assert summary["present"] == pytest.approx(there.mean())


@pytest.mark.django_db
def test_the_p95_of_a_rollup_is_called_one_of_means() -> None:
    writer = SampleWriter("box", 168)
    for second in range(NOW - 6 * HOUR, NOW, 5):
        writer.write(second, {"cpu_percent": 100.0 if second % 60 == 0 else 0.0})
    found = drawn(view("range=6h&series=cpu_percent"), NOW - 1)
    summary = found["charts"][0]["lines"][0]["summary"]
    assert found["tier"] == 10
    assert found["p95"].startswith("p95 is of means of 10 s: shorter peaks are not in it.")
    assert (summary["low"], summary["high"], summary["p95"]) == (0, 100, 50)


# tiers and gaps, over a month


@pytest.fixture(scope="module")
def rows_of_a_month() -> dict[str, Rows]:
    return generate(["cpu_percent", "memory_used_bytes"], NOW)


@pytest.fixture
def month(db: None, rows_of_a_month: dict[str, Rows]) -> None:
    store("box", rows_of_a_month)


@pytest.mark.parametrize(
    ("query", "tier", "step", "said"),
    [
        ("range=5m", 1, 1, "Every second."),
        ("range=1h", 1, 6, "A point is 6 s of 1 s samples."),
        ("range=6h", 10, 40, "A point is 40 s, from means of 10 s."),
        ("range=24h", 60, 120, "A point is 2 min, from means of 1 min."),
        ("range=30d", 3600, 3600, "A point is a mean of 1 h."),
        ("3", 10, 10, "nothing finer is kept for that long"),
        ("10", 60, 60, "nothing finer is kept for that long"),
        ("29", 60, 60, "nothing finer is kept for that long"),
    ],
)
def test_each_time_is_answered_from_its_tier_and_says_so(
    month: None, query: str, tier: int, step: int, said: str
) -> None:
    if query.isdigit():  # an hour, so many days ago
        start = NOW - int(query) * DAY
        query = f"from={iso(start)}&to={iso(start + HOUR)}"
    found = drawn(view(f"{query}&series=cpu_percent"), NOW)
    line = found["charts"][0]["lines"][0]
    assert (found["tier"], found["step"]) == (tier, step)
    assert said.rstrip(".") in found["resolution"]
    assert sum(value is not None for value in line["mean"]) >= 60
    assert len(line["mean"]) <= 1000
    assert line["summary"]["present"] > 0.2


@pytest.mark.parametrize("range_", RANGES)
def test_no_range_answers_more_than_a_thousand_points(month: None, range_: str) -> None:
    found = drawn(view(f"range={range_}&series=cpu_percent&compare=week"), NOW)
    line = found["charts"][0]["lines"][0]
    assert 200 <= len(line["mean"]) <= 1000
    assert len(line["then"]) <= 1000


@pytest.mark.django_db
@pytest.mark.parametrize(("range_", "tier"), [("1h", 1), ("6h", 10), ("24h", 60), ("30d", 3600)])
def test_a_gap_is_null_in_every_tier_and_counted_in_the_summary(range_: str, tier: int) -> None:
    span = RANGES[range_][1]
    writer, every = SampleWriter("box", 10_000), max(tier, 1)
    for at in range(NOW - span, NOW, every):  # one sample a bucket, none in the third quarter
        if not NOW - span // 2 <= at < NOW - span // 4:
            writer.write(at, {"cpu_percent": 1.0})
    found = drawn(view(f"from={iso(NOW - span)}&to={iso(NOW)}&series=cpu_percent"), NOW)
    line = found["charts"][0]["lines"][0]
    assert found["tier"] == tier
    times = found["start"] + found["step"] * np.arange(len(line["mean"]))
    inside = (times >= NOW - span // 2) & (times + found["step"] <= NOW - span // 4)
    outside = (times + found["step"] <= NOW - span // 2) | (times >= NOW - span // 4)
    for key in ("mean", "low", "high"):
        if key in line:
            assert all(line[key][n] is None for n in np.flatnonzero(inside)), key
            assert all(line[key][n] == 1 for n in np.flatnonzero(outside & (times < NOW - every)))
    assert line["summary"]["present"] == pytest.approx(0.75 / every, rel=0.02)


@pytest.mark.django_db
def test_what_is_not_over_is_not_missing() -> None:
    writer = SampleWriter("box", 168)
    for at in range(NOW - 600, NOW):
        writer.write(at, {"cpu_percent": 1.0})
    asked = view(f"from={iso(NOW - 600)}&to={iso(NOW + HOUR)}&series=cpu_percent")
    assert drawn(asked, NOW)["charts"][0]["lines"][0]["summary"]["present"] == 1.0


@pytest.mark.django_db
def test_a_comparison_lies_over_the_same_hour_of_yesterday() -> None:
    writer = SampleWriter("box", 168)
    for begin, value in ((NOW - DAY - 600, 10.0), (NOW - 600, 15.0)):
        for at in range(begin, begin + 600):
            writer.write(at, {"cpu_percent": value})
    found = drawn(view(f"from={iso(NOW - 600)}&to={iso(NOW)}&series=cpu_percent&compare=day"), NOW)
    line = found["charts"][0]["lines"][0]
    assert found["compared"]["start"] == found["start"]
    assert set(line["mean"]) == {15}
    assert set(line["then"]) == {10}
    assert (line["summary"]["mean"], line["then_mean"]) == (15, 10)


def test_a_comparison_with_what_is_kept_coarser_says_so(month: None) -> None:
    found = drawn(view("range=15m&series=cpu_percent&compare=week"), NOW)
    assert (found["tier"], found["compared"]["step"]) == (1, 60)
    assert "7 days earlier" in found["compared"]["resolution"]
    assert "nothing finer is kept" in found["compared"]["resolution"]


def test_the_band_is_there_where_a_point_is_more_than_a_sample(month: None) -> None:
    def line(query: str) -> dict[str, Any]:
        return dict(drawn(view(query), NOW)["charts"][0]["lines"][0])

    long = line("range=24h&series=cpu_percent")
    known = [n for n, value in enumerate(long["mean"]) if value is not None]
    assert all(long["low"][n] <= long["mean"][n] <= long["high"][n] for n in known)
    assert "low" not in line("range=5m&series=cpu_percent")
    assert "low" not in line("range=24h&series=cpu_percent&band=off")


# events


@pytest.mark.django_db
def test_events_and_open_alerts_of_the_time_come_along_those_of_others_do_not() -> None:
    SampleWriter("box", 168).write(NOW - 5, {"cpu_percent": 1.0})
    for host, ago, text in (("box", 60, "m loaded"), ("box", 7200, "too old"), ("attic", 60, "elsewhere")):
        services.record_event(host=host, at=NOW - ago, kind="model", text=text)

    def alert(fired_ago: int, resolved_ago: int | None, **values: Any) -> Alert:
        at = [
            None if ago is None else datetime.fromtimestamp(NOW - ago, UTC)
            for ago in (fired_ago, resolved_ago)
        ]
        base = {
            "rule_name": f"r{fired_ago}",
            "fingerprint": f"{fired_ago}",
            "host": "box",
            "labels": {},
            "severity": 2,
        }
        base |= {"series": "cpu_percent", "above": True, "fire_at": 1, "clear_at": 0}
        return Alert.objects.create(**{**base, "fired_at": at[0], "resolved_at": at[1], **values})

    still, over = alert(5000, None), alert(4000, 600)
    alert(9000, 8000)
    alert(100, None, host="attic", fingerprint="other")
    found = drawn(view("range=1h&host=box"), NOW)["events"]
    assert ([mark["text"] for mark in found["marks"]], found["n"]) == (["m loaded"], 1)
    assert [each["url"] for each in found["alerts"]] == [f"/alerts/{over.pk}/", f"/alerts/{still.pk}/"]
    assert found["alerts"][1]["to"] is None
    assert found["alerts"][0]["severity"] == "warning"


@pytest.mark.django_db
def test_of_too_many_events_the_newest_come_and_the_number_of_all() -> None:
    SampleWriter("box", 168).write(NOW - 5, {"cpu_percent": 1.0})
    for n in range(selectors.MAX_EVENTS + 5):
        services.record_event(host="box", at=NOW - 1000 + n, kind="model", text=f"{n}")
    found = selectors.events(view("range=1h"))
    assert (len(found["marks"]), found["n"]) == (selectors.MAX_EVENTS, selectors.MAX_EVENTS + 5)
    assert [found["marks"][0]["text"], found["marks"][-1]["text"]] == ["5", f"{selectors.MAX_EVENTS + 4}"]


# files


def test_a_csv_has_every_bucket_of_the_tier_and_gaps_are_empty(month: None) -> None:
    asked = view("range=24h&series=cpu_percent")
    rows = list(csv.reader(io.StringIO(exports.as_csv(asked, NOW))))
    assert rows[0] == [
        "time",
        "unix_s",
        *(f"cpu_percent {what} on box" for what in ("mean", "min", "max", "samples")),
    ]
    assert len(rows) == 1 + 24 * 60 + 1
    assert [rows[1][0], rows[1][1]] == [iso(int(rows[1][1])), str(asked.start - asked.start % 60)]
    assert {int(b[1]) - int(a[1]) for a, b in pairwise(rows[1:])} == {60}
    for row in rows[1:]:
        assert (row[2] == "") == (row[5] == "0")
    known = [row for row in rows[1:] if row[2]]
    assert all(float(row[3]) <= float(row[2]) <= float(row[4]) for row in known)


def test_the_json_says_the_same_with_units_and_the_tier(month: None) -> None:
    asked = view("range=1h&series=cpu_percent&series=memory_used_bytes")
    found = json.loads(exports.as_json(asked, NOW))
    assert (found["tier_s"], found["step_s"], [each["unit"] for each in found["series"]]) == (
        1,
        1,
        ["%", "B"],
    )
    assert len(found["series"][0]["mean"]) == HOUR
    rows = list(csv.reader(io.StringIO(exports.as_csv(asked, NOW))))[1:]
    assert [row[2] for row in rows] == ["" if v is None else str(v) for v in found["series"][0]["mean"]]


def test_a_file_of_a_year_of_everything_has_no_more_rows_than_the_page_says(month: None) -> None:
    asked = view(f"from={iso(NOW - 20 * DAY)}&to={iso(NOW)}&series=cpu_percent&series=memory_used_bytes")
    assert exports.as_csv(asked, NOW).count("\n") <= exports.ROWS * 2 + 1


@pytest.mark.django_db
def test_a_view_of_nothing_is_a_file_with_no_columns() -> None:
    SampleWriter("box", 168).write(NOW - 5, {"cpu_percent": 1.0})
    assert exports.as_csv(view("series="), NOW).splitlines() == ["time,unix_s"]


# pages


@pytest.fixture
def person(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_user("anna"))
    return client


@pytest.fixture
def recorded(person: Client, settings: Any) -> Client:
    settings.HOST_NAME = "box"
    writer, now = SampleWriter("box", 168), int(time.time())
    for at in range(now - 400, now):
        writer.write(
            at, {"cpu_percent": 20.0, "memory_used_percent": 30.0, "disk_read_bytes_per_s{device=sda}": 5.0}
        )
    SampleWriter("</script><b>attic", 168).write(now, {"cpu_percent": 90.0})
    return person


ADDRESSES = ("/history/", "/history/data/", "/history/export.csv", "/history/export.json")


@pytest.mark.django_db
def test_nobody_sees_history_without_a_login(client: Client) -> None:
    for address in ADDRESSES:
        assert client.get(address)["Location"].startswith("/login/"), address


def test_nothing_is_changed_there(person: Client) -> None:
    assert {person.post(address).status_code for address in ADDRESSES} == {405}


def test_the_page_begins_with_its_own_host_and_offers_the_others(recorded: Client) -> None:
    answer = recorded.get("/history/")
    page = answer.content.decode()
    assert answer.context["state"] == {
        "range": "1h", "hosts": ("box",), "series": ("cpu_percent", "memory_used_percent"), "compare": "", "band": True,
    }  # fmt: skip
    assert "</script><b>attic" not in page
    assert "\\u003C/script\\u003E\\u003Cb\\u003Eattic" in page
    assert 'aria-current="page">History</a>' in page.replace("\n", "")


def test_another_time_keeps_the_series_where_nothing_is_drawn(recorded: Client) -> None:
    page = recorded.get(
        "/history/?from=never&host=box&series=disk_used_percent{mount=/a%26b}"
    ).content.decode()
    assert 'name="series" value="disk_used_percent{mount=/a&amp;b}"' in " ".join(page.split())
    assert "?range=6h&amp;host=box&amp;series=disk_used_percent%7Bmount%3D%2Fa%26b%7D" in page


def test_the_page_says_what_is_wrong_at_its_field_and_keeps_what_was_typed(recorded: Client) -> None:
    answer = recorded.get("/history/?from=2026-01-02T10:00&to=2026-01-02T09:00&compare=year&zone=UTC")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert answer.context["state"] is None
    assert "It ends before it begins: give a later time." in page
    assert 'value="2026-01-02T09:00"' in page
    assert "year is not one of the available choices" in page


def test_without_samples_the_page_says_so(person: Client) -> None:
    assert "Nothing is recorded yet" in person.get("/history/").content.decode()
    found = person.get("/history/data/").json()
    assert (found["charts"], found["events"]["marks"]) == ([], [])


def test_data_comes_or_names_the_field(recorded: Client) -> None:
    found = recorded.get("/history/data/?range=5m&series=cpu_percent&series=disk_read_bytes_per_s").json()
    assert [(chart["title"], chart["unit"]) for chart in found["charts"]] == [
        ("CPU", "%"),
        ("Disk traffic", "B/s"),
    ]
    assert found["charts"][0]["lines"][0]["summary"]["mean"] == 20
    for address in ADDRESSES[1:]:
        refused = recorded.get(f"{address}?range=2h&host=cellar")
        assert refused.status_code == 400
        assert set(refused.json()["errors"]) == {"range", "host"}
    both = recorded.get(
        "/history/data/", {"range": "5m", "series": "cpu_percent", "host": ["box", "</script><b>attic"]}
    )
    assert [line["label"] for line in both.json()["charts"][0]["lines"]] == [
        "busy · box",
        "busy · </script><b>attic",
    ]


def test_files_are_named_by_their_time(recorded: Client) -> None:
    for kind, content_type in (("csv", "text/csv"), ("json", "application/json")):
        answer = recorded.get(f"/history/export.{kind}?from=2026-11-01T10:00Z&to=2026-11-01T11:00Z")
        assert answer["Content-Type"].startswith(content_type)
        assert answer["Content-Disposition"].endswith(
            f'"history-2026-11-01T100000Z-2026-11-01T110000Z.{kind}"'
        )


def test_questions_to_the_database_do_not_grow_with_the_lines(
    recorded: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(4):  # session, user, names, open alerts of the strip
        recorded.get("/history/")
    with django_assert_max_num_queries(8):  # the first three, names, chunks, journal, events, alerts
        recorded.get("/history/data/?range=5m&series=cpu_percent")
    with django_assert_max_num_queries(8):
        recorded.get(
            "/history/data/?range=5m&series=cpu_percent&series=memory_used_percent&series=disk_read_bytes_per_s"
        )
