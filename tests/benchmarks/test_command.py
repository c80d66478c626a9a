"""`manage.py benchmark`: the same run in the foreground."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from benchmarks import services
from benchmarks.models import Measurement, Run, State
from tests.benchmarks.conftest import MODEL, NOW
from tests.inference.serving import Server
from tests.product import wait_for

QUICK = ["--engine", "embedded", "--requests", "3", "--rounds", "1", "--num-predict", "4"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]


def call(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("benchmark", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_json_is_all_that_stdout_gets() -> None:
    out, err = call("aicleaner-sample", *QUICK, "--json", "--yes")
    found = json.loads(out)
    assert (found["state"], found["parameters"]["models"]) == ("done", [MODEL])
    assert found["summaries"][MODEL]["values"]["ttft_p50_ms"]["value"] > 0
    assert found["fingerprint"]["models"][MODEL]["digest"]
    assert "3 requests to aicleaner-sample:latest; duration unknown" in err
    run = Run.objects.get()
    assert run.who.endswith("at the terminal")


def test_the_table_names_the_figures_and_two_runs_are_compared() -> None:
    for _ in range(2):
        out, _ = call("aicleaner-sample", *QUICK, "--yes")
        assert "TTFT, median" in out
        assert "End to end, median" in out
    a, b = Run.objects.order_by("id").values_list("pk", flat=True)
    out, _ = call("--compare", str(a), f"{b}/{MODEL}")
    assert f"A: run {a}, {MODEL}" in out
    assert "No difference shown" in out
    found = json.loads(call("--compare", str(a), str(b), "--json")[0])
    assert found["verdict"] == "no difference shown"
    assert {each["metric"] for each in found["comparisons"]} >= {"ttft_p50_ms", "output_tokens_per_s"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "Name one model"),
        (["nope", *QUICK], "The engine has no model nope. It has: aicleaner-sample:latest, twin:latest"),
        (["m", "--engine", "ollama"], "http://127.0.0.1:1 does not answer"),
        (["m", "--engine", "other"], "There is no engine other"),
        (["m", "--engine", "cloud"], "needs its address"),
        (["m", "--engine", "cloud", "--url", "ftp://x"], "http://"),
        (["m", "--engine", "cloud", "--url", "http://127.0.0.1:1", "--key-variable", "sk-1"], "_API_KEY"),
        (["m", "--url", "http://127.0.0.1:1"], "--url and --key-variable go with --engine cloud"),
        (["m", "--engine", "embedded", "--key-variable", "AN_API_KEY"], "go with --engine cloud"),
        (["m", "m"], "each model once"),
        (["m", "--kind", "stress"], "--kind: "),
        (["m", "--workload", "poem"], "--workload: "),
        (["m", "--workload", "mixed", "--prompt-tokens", "5"], "--prompt-tokens"),
        (["m", "--prompt-tokens", "5"], "--prompt-tokens and --output-tokens"),
        (["m", "--requests", "0"], "--requests: "),
        (["m", "--requests", "ten"], "invalid int value"),
        (["m", "--rounds", "51"], "--rounds: "),
        (["m", "x", "--requests", "1000", "--rounds", "50"], "more than 50000"),
        (["m", "--warmup", "1"], "--warmup must be 3 or more"),
        (["m", "--kind", "throughput", "--concurrency", "0"], "--concurrency: "),
        (["m", "--concurrency", "2"], "concurrency must be 1 for latency"),
        (["m", "--rate", "2"], "--rate belongs to kind 'load'"),
        (["m", "--think-time", "2"], "--think-time belongs to kind 'load'"),
        (["m", "--num-predict", "0"], "--num-predict: "),
        (["m", "--num-ctx", "-5"], "--num-ctx: "),
        (["m", "--temperature", "9"], "--temperature: "),
        (["m", "--seed", "-1"], "--seed: "),
        (["m", "--timeout", "0"], "--timeout: "),
        (["m", "--slo-ttft", "0"], "--slo-ttft: "),
        (["--compare", "1", "x"], "There is no measured run 1. Runs with results: none."),
        (["m", "--compare", "1", "2"], "not both"),
    ],
)
def test_bad_input_is_one_clear_error_and_starts_nothing(arguments: list[str], word: str) -> None:
    with pytest.raises(CommandError) as caught:
        call(*arguments)
    assert word in str(caught.value)
    assert caught.value.returncode == (3 if "does not answer" in word else 1)
    assert not Run.objects.exists()


def test_another_run_is_waited_for_unless_told_not_to(make_run: Callable[..., Run]) -> None:
    make_run()
    assert services.start_next_run(host=settings.HOST_NAME, now=NOW.replace(year=2100)) is not None
    with pytest.raises(CommandError, match="Another benchmark is running") as caught:
        call("aicleaner-sample", *QUICK, "--no-wait")
    assert caught.value.returncode == 4


def test_an_engine_that_fails_on_the_way_is_exit_code_3(settings: Any, make_run: Callable[..., Run]) -> None:
    with pytest.raises(SystemExit) as caught:
        call("aicleaner-sample", *QUICK, "--timeout", "0.001")
    assert caught.value.code == 3
    run = Run.objects.get()
    assert run.state == State.FAILED
    assert run.reason


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_on_a_terminal_keeps_what_was_measured(engine: Server) -> None:
    """A process of its own on a terminal of its own, with a progress bar."""
    from django.db import connection

    name = str(connection.settings_dict["NAME"])
    database = f"sqlite:///{name}" if connection.vendor == "sqlite" else os.environ["DATABASE_URL"]
    if connection.vendor != "sqlite":
        pytest.skip("the test database of PostgreSQL has another name than DATABASE_URL")
    ours, theirs = pty.openpty()
    words = ["aicleaner-sample", "--engine", "embedded", "--requests", "400", "--rounds", "3", "--yes"]
    process = subprocess.Popen(
        [sys.executable, "manage.py", "benchmark", *words],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database, "AICLEANER_ENGINE_PORT": str(engine.port)},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    seen = bytearray()

    def past(n: int) -> bool:
        seen.extend(os.read(ours, 65536))
        counts = [int(part.split(b"/")[0]) for part in seen.split(b"] ")[1:] if b"/" in part]
        return bool(counts) and counts[-1] > n

    wait_for(lambda: past(60), "the bar has moved", 60)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 130
    assert b"[#" in seen
    assert "TTFT, median" in out
    run = Run.objects.get()
    assert (run.state, run.reason) == (State.CANCELLED, "ended at the terminal")
    assert Measurement.objects.filter(run=run, complete=False).count() == 1
