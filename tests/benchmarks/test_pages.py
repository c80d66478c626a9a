"""The list, the result page, comparisons and downloads."""

import csv
import io
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from aicleaner_site.config import parse_config
from benchmarks import comparisons, execution, exports, selectors, services
from benchmarks.models import Run, State
from benchmarks.statistics.metrics import METRICS
from benchmarks.templatetags.benchmarks import duration
from monitoring.services import SampleWriter
from tests.benchmarks.conftest import MODEL, NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]
MakeRun = Callable[..., Run]


@pytest.fixture
def page(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def measured(make_run: MakeRun, user: User) -> Run:
    """A run of two models that is done, measured on the real engine."""
    return measure(make_run(user, models=(MODEL, "twin:latest"), slo={"total_ms": 60_000}))


def measure(run: Run) -> Run:
    started = services.start_next_run(host=settings.HOST_NAME, now=NOW)
    assert started == run
    execution.execute(started, stopping=lambda: "", stopped_as=State.INTERRUPTED)
    run.refresh_from_db()
    assert run.state == State.DONE, run.reason
    return run


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_every_page_asks_for_a_login(client: Client, make_run: MakeRun) -> None:
    run = make_run()
    downloads = ("result.json", "requests.csv", "figures.csv")
    tails = ("charts/", "cancel/", "baseline/", "delete/", *downloads, "")
    for path in (
        "",
        "new/",
        "new/models/",
        "new/estimate/",
        "compare/",
        *(f"{run.pk}/{tail}" for tail in tails),
    ):
        for method in (client.get, client.post):
            answer = method(f"/benchmarks/{path}")
            assert (answer.status_code, answer.headers.get("Location", "")[:7]) == (302, "/login/"), path


def test_nothing_yet_and_nothing_found_are_said(page: Client, make_run: MakeRun) -> None:
    assert "Nothing measured yet" in text_of(page.get("/benchmarks/"))
    assert "Nothing to compare yet" in text_of(page.get("/benchmarks/compare/"))
    make_run()
    assert "No run matches" in text_of(page.get("/benchmarks/?state=failed"))


@pytest.mark.parametrize(
    ("query", "n"),
    [("", 3), ("?state=queued", 2), ("?state=cancelled", 1), ("?kind=load", 1), ("?model=twin", 1), ("?model=SAMPLE", 2),
     ("?state=nonsense", 0), ("?model=%22", 3), ("?page=99", 3), ("?page=x", 3)],
)  # fmt: skip
def test_filters(page: Client, make_run: MakeRun, query: str, n: int) -> None:
    make_run(kind="load", concurrency=2)
    make_run(models=("twin:latest",))
    services.cancel_run(make_run(), who="mia", now=NOW)
    assert len(page.get(f"/benchmarks/{query}").context["rows"]) == n


def test_long_lists_have_pages_and_cost_the_same_queries(
    page: Client, make_run: MakeRun, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(27):
        make_run(now=NOW + timedelta(seconds=n))
    with django_assert_num_queries(5):  # session, user, count, rows, open alerts
        answer = page.get("/benchmarks/?kind=latency")
    assert "page 1 of 2, 27 runs" in text_of(answer)
    assert "kind=latency&amp;page=2" in text_of(answer)
    assert len(page.get("/benchmarks/?page=2").context["rows"]) == 2


def test_a_partial_is_only_the_part(page: Client, make_run: MakeRun) -> None:
    run = make_run()
    for path in ("/benchmarks/", f"/benchmarks/{run.pk}/"):
        assert "<html" in page.get(path).content.decode()
        assert "<html" not in page.get(path, headers={"HX-Request": "true"}).content.decode()


def test_the_result_page_shows_every_metric_that_applies(
    page: Client, measured: Run, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(6):
        answer = page.get(f"/benchmarks/{measured.pk}/")
    text = text_of(answer)
    report = answer.context["report"]
    keys = {row.key for row in report.rows}
    assert {
        "ttft_p50_ms",
        "total_p50_ms",
        "output_tokens_per_s",
        "goodput_per_s",
        "attainment",
        "error_rate",
    } <= keys
    assert {"decode_tokens_per_s", "prefill_tokens_per_s", "schedule_lag_p99_ms", "gap_p50_ms"} <= keys
    assert ("TTFT, p95", "Needs 100 values; there are 6.") in report.missing
    assert ("Energy per token", "No GPU power was read over the whole window.") in report.missing
    for row in report.rows:
        assert f'id="tip-{row.key}"' in text
    assert report.decisions[0][0] == "twin:latest"
    assert "No metric shows a difference beyond its threshold." in text
    assert measured.fingerprint["models"][MODEL]["digest"][:12] in text
    assert "2 rounds of 3 requests for each model" in text
    assert re.search(r"Load generator</dt> <dd> \d+% of a core at most", text)


def test_charts_share_the_time_axis_with_what_the_host_did(page: Client, make_run: MakeRun) -> None:
    run = measure(make_run())
    writer = SampleWriter(settings.HOST_NAME, 24)
    start = int(time.time()) - 30
    Run.objects.filter(pk=run.pk).update(started_at=NOW.fromtimestamp(start, NOW.tzinfo))
    for second in range(start, start + 40):
        writer.write(
            second, {"cpu_percent": 50.0, "gpu_util_percent{gpu=0}": 70.0, "gpu_power_w{gpu=0}": 100.0}
        )
    charts = page.get(f"/benchmarks/{run.pk}/charts/").context["charts"]
    assert [chart.name for chart in charts.distributions] == ["ttft", "total", "gap", "tpot"]
    assert charts.left_out == []
    data, layout = charts.timeline.plot["data"], charts.timeline.plot["layout"]
    assert [trace["yaxis"] for trace in data] == ["y", "y2", "y3", "y4", "y5"]
    assert {"yaxis", "yaxis2", "yaxis3", "yaxis4", "yaxis5"} <= layout.keys()
    assert set(data[2]["y"]) - {None} == {50.0}
    assert abs(data[2]["x"][0]) <= 1.5
    json.dumps([chart.plot for chart in (*charts.distributions, charts.timeline)], allow_nan=False)


def test_a_machine_without_gpu_says_why(page: Client, measured: Run) -> None:
    text = text_of(page.get(f"/benchmarks/{measured.pk}/charts/"))
    assert "GPU is not shown: no NVIDIA driver" in text


def test_energy_comes_from_the_recorded_power_and_its_cost_from_the_configuration(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """performance_optimization: {benchmarking: {
        electricity_price_per_kwh: 0.36, hardware_price: 35064, hardware_lifetime_years: 4}}"""  # 1 an hour
    monkeypatch.setattr(settings, "CONFIG", parse_config(text))
    writer = SampleWriter(settings.HOST_NAME, 24)
    run = make_run(n_rounds=1)
    started = services.start_next_run(host=settings.HOST_NAME, now=NOW)
    assert started is not None
    now = int(time.time())
    for second in range(now - 60, now):
        writer.write(second, {"gpu_power_w{gpu=0}": 40.0, "gpu_power_w{gpu=1}": 10.0, "gateway_running": 0.0})
    for second in range(now, now + 120):
        writer.write(second, {"gpu_power_w{gpu=0}": 90.0, "gpu_power_w{gpu=1}": 10.0, "gateway_running": 1.0})
    Run.objects.filter(pk=run.pk).update(started_at=NOW.fromtimestamp(now, NOW.tzinfo))
    started.refresh_from_db()
    execution.execute(started, stopping=lambda: "", stopped_as=State.INTERRUPTED)
    run.refresh_from_db()
    figures = run.figures[MODEL]
    watts = figures["joules_per_token"] * figures["output_tokens_per_s"]
    assert watts == pytest.approx(100, rel=0.02)
    assert figures["net_joules_per_token"] == pytest.approx(figures["joules_per_token"] / 2, rel=0.02)
    per_token = figures["joules_per_token"] / 3.6e6 * 0.36 + 1 / 3600 / figures["output_tokens_per_s"]
    assert figures["cost_per_mtok"] == pytest.approx(per_token * 1e6, rel=0.001)


def test_downloads(page: Client, measured: Run) -> None:
    answer = page.get(f"/benchmarks/{measured.pk}/result.json")
    assert answer["Content-Disposition"] == f'attachment; filename="benchmark-{measured.pk}.json"'
    found = answer.json()
    assert [row["round"] for row in found["measurements"]] == [1, 1, 2, 2]
    assert found["measurements"][0]["result"]["requests"]["n_tokens"]
    rate = found["summaries"][MODEL]["values"]["output_tokens_per_s"]
    assert rate["value"] == found["figures"][MODEL]["output_tokens_per_s"]
    assert found["decisions"]["twin:latest"]["verdict"] == "no difference shown"
    figures = page.get(f"/benchmarks/{measured.pk}/figures.csv").content.decode()
    lines = {(each["model"], each["metric"]): each for each in csv.DictReader(io.StringIO(figures))}
    assert {metric for _, metric in lines} == set(METRICS)
    assert float(lines[MODEL, "output_tokens_per_s"]["value"]) == pytest.approx(rate["value"])
    assert lines["twin:latest", "ttft_p95_ms"]["reason"] == "Needs 100 values; there are 6."
    rows = list(
        csv.DictReader(io.StringIO(page.get(f"/benchmarks/{measured.pk}/requests.csv").content.decode()))
    )
    assert len(rows) == 4 * (3 + 3)
    assert {row["model"] for row in rows} == {MODEL, "twin:latest"}
    assert float(rows[0]["done_ms"]) > float(rows[0]["sent_ms"])
    assert {row["status"] for row in rows} == {"ok"}


@given(st.text(max_size=5))
def test_no_text_in_a_table_is_a_formula(text: str) -> None:
    assert str(exports._safe(text))[:1] not in {"=", "+", "-", "@", "\t", "\r"}
    assert str(exports._safe(text)).removeprefix("'") == text.removeprefix("'")


def test_two_models_of_a_run_and_two_runs_are_compared(
    page: Client, measured: Run, make_run: MakeRun
) -> None:
    other = measure(make_run(n_rounds=1, num_predict=4))
    text = text_of(page.get(f"/benchmarks/compare/?a={measured.pk}/{MODEL}&b={measured.pk}/twin:latest"))
    assert "paired, since they took turns" in text
    assert "6 pairs of rounds are needed; there are 2." in text
    text = text_of(page.get(f"/benchmarks/compare/?a={measured.pk}&b={other.pk}"))
    assert "Asked for otherwise: num predict 8 / 4." in text
    assert "No difference shown" in text
    assert f'value="{other.pk}/{MODEL}" selected' in text


def copied(run: Run, **changes: Any) -> None:
    """Another run like it, and all that it measured a little longer."""
    rows = list(run.measurements.all())
    again = Run.objects.get(pk=run.pk)
    again.pk = None
    for name, value in changes.items():
        setattr(again, name, value)
    again.save()
    for row in rows:
        row.pk, row.run = None, again
        values = {key: value * (1 + again.pk / 1000) for key, value in row.summary["values"].items()}
        row.summary = {**row.summary, "values": values}
        row.save()


def test_only_runs_under_the_same_circumstances_tell_the_spread(make_run: MakeRun) -> None:
    a, b = measure(make_run()), measure(make_run())
    model = {**a.fingerprint["models"][MODEL], "digest": "another"}
    copied(a, fingerprint={**a.fingerprint, "models": {MODEL: model}})
    copied(a, fingerprint={**a.fingerprint, "engine": {**a.fingerprint["engine"], "version": "9"}})
    for n, told in ((2, "The interval assumes a spread of 2%."), (3, "from 3 earlier runs.")):
        while len(selectors.history(a, b)) < 2 + n:
            copied(a)
        one, other = comparisons.find_side(str(a.pk)), comparisons.find_side(str(b.pk))
        assert one is not None
        assert other is not None
        found = comparisons.compare_sides(one, other)
        assert told in next(each.why for each in found.decision.comparisons if each.metric == "total_p50_ms")


@pytest.mark.parametrize("asked", ["x", "99999999", "1/", "-1", "1" * 30, "1/nope", "<script>"])
def test_a_side_that_does_not_exist_is_said(page: Client, measured: Run, asked: str) -> None:
    asked = asked.replace("1/", f"{measured.pk}/") if asked != "1/" else "0/"
    text = text_of(page.get("/benchmarks/compare/", {"a": asked, "b": str(measured.pk)}))
    assert "There is no measured run" in text
    assert "<script>" + "<" not in text
    assert comparisons.find_side(asked) is None


def test_cancel_baseline_and_delete_are_for_the_owner_and_staff(
    client: Client, staff: User, user: User, make_run: MakeRun
) -> None:
    run = make_run(staff)
    client.force_login(user)
    for path in ("cancel/", "baseline/", "delete/"):
        assert client.post(f"/benchmarks/{run.pk}/{path}").status_code == 403
    assert client.get(f"/benchmarks/{run.pk}/delete/").status_code == 403
    assert "Cancel</button>" not in text_of(client.get(f"/benchmarks/{run.pk}/"))
    client.force_login(staff)
    assert client.get(f"/benchmarks/{run.pk}/cancel/").status_code == 405
    client.post(f"/benchmarks/{run.pk}/cancel/")
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.CANCELLED, "cancelled by boss")
    text = text_of(client.post(f"/benchmarks/{run.pk}/cancel/", follow=True))
    assert "there is nothing to cancel" in text
    assert "Only a run that is done" in text_of(
        client.post(f"/benchmarks/{run.pk}/baseline/", {"on": "1"}, follow=True)
    )
    assert f"Delete run {run.pk}?" in text_of(client.get(f"/benchmarks/{run.pk}/delete/"))
    assert Run.objects.exists()
    assert f"Run {run.pk} is deleted." in text_of(client.post(f"/benchmarks/{run.pk}/delete/", follow=True))
    assert not Run.objects.exists()


def test_forms_need_the_csrf_token(user: User, make_run: MakeRun) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    run = make_run(user)
    for path in ("new/", f"{run.pk}/cancel/", f"{run.pk}/delete/", f"{run.pk}/baseline/"):
        assert client.post(f"/benchmarks/{path}").status_code == 403


def test_unknown_runs_are_404(page: Client) -> None:
    for path in ("", "charts/", "delete/", "result.json", "requests.csv", "figures.csv"):
        assert page.get(f"/benchmarks/999999/{path}").status_code == 404


def test_states_speak_for_themselves(page: Client, make_run: MakeRun) -> None:
    first, second = make_run(), make_run(now=NOW + timedelta(seconds=1))
    assert "Starts in a moment." in text_of(page.get(f"/benchmarks/{first.pk}/"))
    assert "Waits for 1 other run." in text_of(page.get(f"/benchmarks/{second.pk}/"))
    services.start_next_run(host=settings.HOST_NAME, now=NOW)
    services.keep_lease(first, now=NOW, progress={"done": 3, "total": 12, "errors": 0})
    assert "3 of 12" in text_of(page.get(f"/benchmarks/{first.pk}/"))
    services.end_run(first, State.FAILED, "the engine went away", now=NOW)
    text = text_of(page.get(f"/benchmarks/{first.pk}/"))
    assert "The engine went away." in text
    assert "Nothing was measured" in text


def test_the_admin_shows_runs(client: Client, staff: User, make_run: MakeRun) -> None:
    run = make_run()
    client.force_login(staff)
    for path in ("", f"{run.pk}/change/"):
        assert client.get(f"/admin/benchmarks/run/{path}").status_code == 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (1500, "25 min"), (3900, "1 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
