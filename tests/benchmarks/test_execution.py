"""A run from its start to whatever ends it: real load processes on the real engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from benchmarks import execution, selectors, services, tasks
from benchmarks.load.result import Result
from benchmarks.models import Measurement, Run, State
from benchmarks.outcome import Outcome
from inference.child_process import ChildProcess
from inference.sample_model.evaluate import FILE as SAMPLE
from tests.benchmarks.conftest import MODEL, NOW, small
from tests.inference.serving import Server
from tests.product import wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]
MakeRun = Callable[..., Run]
LONG = {"n_requests": 500, "n_rounds": 3, "num_predict": 32}


def run_it(run: Run, **kwargs: Any) -> Run:
    started = services.start_next_run(host=settings.HOST_NAME, now=NOW)
    assert started == run
    execution.execute(started, **{"stopping": lambda: "", "stopped_as": State.INTERRUPTED, **kwargs})
    run.refresh_from_db()
    return run


def test_models_take_turns_and_everything_is_kept(make_run: MakeRun) -> None:
    told: list[dict[str, Any]] = []
    run = run_it(make_run(models=(MODEL, "twin:latest"), n_rounds=3), watch=told.append)
    assert (run.state, run.reason) == (State.DONE, "")
    order = list(Measurement.objects.order_by("id").values_list("round", "model"))
    assert order == [
        (0, MODEL),
        (0, "twin:latest"),
        (1, "twin:latest"),
        (1, MODEL),
        (2, MODEL),
        (2, "twin:latest"),
    ]
    result = Result.model_validate_json(zlib.decompress(Measurement.objects.order_by("id")[0].raw))
    assert sum(result.requests.measured) == 3
    assert [result.plan.seed, result.complete] == [0, True]
    assert told[0]["total"] == 6 * (3 + 3)
    outcome = Outcome.of(run)
    assert list(outcome.summaries) == [MODEL, "twin:latest"]
    assert list(outcome.decisions) == ["twin:latest"]
    assert run.figures[MODEL]["output_tokens_per_s"] > 0
    assert run.fingerprint["models"][MODEL]["digest"]
    assert run.fingerprint["engine"]["kind"] == "embedded"


def test_through_the_gateway_the_engine_behind_it_is_told(make_run: MakeRun) -> None:
    run = run_it(make_run(engine="gateway", n_rounds=1))
    assert run.state == State.DONE
    assert run.fingerprint["engine"]["kind"] == "embedded"
    assert run.fingerprint["engine"]["name"] == "gateway"


def test_no_answer_that_is_measured_comes_from_the_gateway_s_cache(make_run: MakeRun) -> None:
    with redis.from_url(settings.VALKEY_URL) as valkey:
        valkey.delete("aicleaner:gateway:records")
        for _ in range(2):  # the second run asks what the first one asked
            assert run_it(make_run(engine="gateway", n_rounds=1, n_requests=3)).state == State.DONE

        def caches() -> list[str]:
            found = [json.loads(fields[b"r"]) for _, fields in valkey.xrange("aicleaner:gateway:records")]
            return [each["cache"] for each in found if each["client"] == "benchmark"]

        wait_for(lambda: len(caches()) >= 12, "the gateway's records are there")
        assert set(caches()) == {"bypass"}


def test_an_openai_server_is_measured_with_a_key_that_stays_in_its_variable(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "very-secret")
    url = settings.ENGINES[1]["url"] + "/v1"
    run = run_it(make_run(engine="cloud", url=url, key_variable="SOME_API_KEY", n_rounds=1))
    assert (run.state, run.reason) == (State.DONE, "")
    for row in (*Run.objects.values(), *Measurement.objects.values("summary")):
        assert "very-secret" not in str(row)
    assert b"very-secret" not in zlib.decompress(Measurement.objects.get().raw)
    assert "very-secret" not in caplog.text


def stop_after_some(run: Run, stop: Callable[[], object]) -> Callable[[dict[str, Any]], None]:
    """A watch that calls `stop` once ten requests beyond the warm-up are done."""
    called: list[bool] = []

    def watch(progress: dict[str, Any]) -> None:
        if progress["done"] > 60 and not called:
            called.append(True)
            stop()

    return watch


def test_cancelling_keeps_what_was_measured(make_run: MakeRun) -> None:
    run = make_run(**LONG)
    cancel = stop_after_some(run, lambda: services.cancel_run(run, who="mia", now=NOW))
    run_it(run, watch=cancel)
    assert (run.state, run.reason) == (State.CANCELLED, "cancelled by mia")
    row = Measurement.objects.get()
    assert not row.complete
    assert row.summary["n_ok"] > 0
    assert run.figures[MODEL]["ttft_p50_ms"] > 0


def test_who_cancels_sees_it_before_the_figures_are_worked_out(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, client: Client, user: User
) -> None:
    sum_up, states, pages = services.sum_up, list[str](), list[str]()
    client.force_login(user)

    def look_first(run: Run, *args: Any, **kwargs: Any) -> Outcome:
        states.append(Run.objects.get(pk=run.pk).state)
        with monkeypatch.context() as page_only:
            page_only.setattr(services, "sum_up", sum_up)
            pages.append(client.get(f"/benchmarks/{run.pk}/").content.decode())
        return sum_up(run, *args, **kwargs)

    run = make_run(**LONG)
    monkeypatch.setattr(services, "sum_up", look_first)
    run_it(run, watch=stop_after_some(run, lambda: services.cancel_run(run, who="mia", now=NOW)))
    assert states == [State.CANCELLED]
    assert "The figures are being worked out" in pages[0]
    assert run.figures


def test_figures_that_nobody_worked_out_are_worked_out_by_the_page(
    make_run: MakeRun, client: Client, user: User
) -> None:
    client.force_login(user)
    run = run_it(make_run())
    long_ago = timezone.now() - selectors.SUMMED_UP_WITHIN
    Run.objects.filter(pk=run.pk).update(outcome={}, figures={}, ended_at=long_ago)
    assert "TTFT, median" in client.get(f"/benchmarks/{run.pk}/").content.decode()
    run.refresh_from_db()
    assert run.figures


def test_a_stopped_worker_leaves_it_interrupted_with_what_was_measured(make_run: MakeRun) -> None:
    reasons = [""]
    run = make_run(**LONG)
    stop = stop_after_some(run, lambda: reasons.__setitem__(0, "the worker was stopped"))
    run_it(run, watch=stop, stopping=lambda: reasons[0])
    assert (run.state, run.reason) == (State.INTERRUPTED, "the worker was stopped")
    assert run.figures


def test_a_lost_lease_stops_the_measurement_and_changes_nothing_more(make_run: MakeRun) -> None:
    run = make_run(**LONG)
    late = NOW + services.LEASE * 1000
    stop = stop_after_some(
        run, lambda: services.end_run(run, State.INTERRUPTED, "elsewhere", now=late) and None
    )
    run_it(run, watch=stop)
    assert (run.state, run.reason, run.ended_at) == (State.INTERRUPTED, "elsewhere", late)


def test_an_unknown_model_ends_the_run_with_what_exists(make_run: MakeRun) -> None:
    run = run_it(make_run(models=("nope",)))
    assert run.state == State.FAILED
    assert run.reason.startswith("The engine has no model nope. It has: aicleaner-sample:latest")


def test_a_dead_engine_ends_the_run_with_its_address(make_run: MakeRun) -> None:
    run = run_it(make_run(engine="ollama"))
    assert run.state == State.FAILED
    assert run.reason.startswith("http://127.0.0.1:1 does not answer")
    assert not Measurement.objects.exists()


def test_an_engine_that_dies_on_the_way_ends_the_run_and_keeps_the_rounds_before(
    make_run: MakeRun, tmp_path: Path, settings: Any
) -> None:
    with Server(
        "inference.engine", "--models", str(tmp_path), "--seed-model", f"aicleaner-sample={SAMPLE}"
    ) as server:
        settings.ENGINES = [{"kind": "embedded", "url": server.url}]

        def kill(progress: dict[str, Any]) -> None:
            if progress["round"] == 2 and server.process.poll() is None:
                for child in psutil.Process(server.process.pid).children(recursive=True):
                    child.kill()
                server.process.kill()
                server.process.wait()

        run = run_it(make_run(n_requests=40, n_rounds=3, num_predict=32), watch=kill)
    assert run.state == State.FAILED
    assert run.reason
    assert Measurement.objects.filter(round=0, complete=True).exists()
    assert run.figures


def test_a_full_disk_is_the_reason_that_is_told(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    run = run_it(make_run())
    assert run.state == State.FAILED
    assert run.reason.startswith("The disk is full")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite can be told to be full")
def test_results_that_can_not_be_stored_end_the_run_with_the_reason(make_run: MakeRun) -> None:
    run = make_run(n_requests=100, num_predict=64)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0] + 2}")
        try:
            run_it(run)
        finally:
            cursor.execute("PRAGMA max_page_count = 4294967294")
    assert run.state == State.FAILED
    assert "database or disk is full" in run.reason


def test_the_task_measures_the_whole_queue(make_run: MakeRun) -> None:
    runs = [make_run(n_rounds=1), make_run(n_rounds=1)]
    tasks.run_queued()
    assert [Run.objects.get(pk=run.pk).state for run in runs] == [State.DONE, State.DONE]


def test_without_valkey_the_worker_is_not_told_and_nobody_waits_for_it() -> None:
    code = "import django; django.setup(); from benchmarks import tasks; tasks._send()"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "REDIS_URL": "unix:///nowhere.sock"},
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "the worker could not be told of a run" in found.stderr


def plan(**changes: Any) -> bytes:
    from benchmarks.engines import find_engine
    from benchmarks.plans import plan_of

    return plan_of(small(**changes), find_engine("embedded"), MODEL, 0).for_process().encode()


def hear(load: ChildProcess, messages: list[dict[str, Any]]) -> int:
    messages += load.messages(0.1)
    return len(messages)


def test_a_load_process_that_is_stopped_gives_its_result_within_a_second_or_so() -> None:
    with ChildProcess("benchmarks.load", plan(**LONG)) as load:
        messages: list[dict[str, Any]] = []
        wait_for(lambda: hear(load, messages) > 1, "it tells progress")
        load.stop()
        wait_for(lambda: hear(load, messages) and load.ended, "it ends", 10)
        assert load.status()[0] == 0
    assert messages[-1]["type"] == "result"
    assert not messages[-1]["complete"]


def test_leaving_early_leaves_no_process_behind() -> None:
    with ChildProcess("benchmarks.load", plan(**LONG)) as load:
        wait_for(lambda: load.messages(0.1), "it starts")
    assert load.process.poll() is not None


def test_a_bad_plan_says_which_field() -> None:
    with ChildProcess("benchmarks.load", json.dumps({"url": "nowhere"}).encode()) as load:
        wait_for(lambda: load.messages(0.1) or load.ended, "it ends")
        status, words = load.status()
    assert status == 2
    assert "url: must be" in words


def test_the_load_process_dies_with_the_one_that_started_it() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with ChildProcess("benchmarks.load", plan(**LONG)) as load:
            load.messages(5)
            os.write(write, f"{load.process.pid}\n".encode())
            time.sleep(60)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        pid = int(lines.readline())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE,
        "it is gone",
        10,
    )
