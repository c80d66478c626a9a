"""The load generator as its callers start it, against a server that says what it did."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any

import pytest

from benchmarks.load.plan import Plan
from benchmarks.load.result import Result, Status
from tests.inference.serving import Server
from tests.product import BASE_DIR, free_ports, wait_for

COMMAND = [sys.executable, "-m", "benchmarks.load"]


@pytest.fixture(scope="module")
def running_server() -> Iterator[Server]:
    with Server("tests.benchmarks.timed") as server:
        yield server


@pytest.fixture
def server(running_server: Server) -> Server:
    log(running_server)
    return running_server


def log(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(server.url + "/log") as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def plan(server: Server, timing: dict[str, Any] | None = None, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "url": server.url,
        "model": "m",
        "n_requests": 6,
        "workload": "task_generation",
        "num_predict": 6,
        "options": {"timing": {"ttft_ms": 2, "gap_ms": 1, **(timing or {})}},
    }
    return Plan(**{**values, **changes})


def run(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, input=text, capture_output=True, text=True, cwd=BASE_DIR, timeout=60)


def measure(wanted: Plan) -> tuple[Result, list[dict[str, Any]]]:
    """(the result, everything said before it)."""
    done = run(wanted.for_process())
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    last = messages.pop()
    assert last["type"] == "result"
    result = Result.model_validate(last["result"])
    assert last["complete"] == result.complete
    return result, messages


def test_sequence_sends_one_after_the_other_and_counts_as_the_server_does(server: Server) -> None:
    result, messages = measure(plan(server))
    rows, told = result.requests, log(server)
    assert messages[0]["type"] == "started"
    assert messages[0]["total"] == 9
    assert result.complete
    assert told["most_at_once"] == 1
    assert len(told["requests"]) == len(rows.status) == 9
    assert rows.measured == [False] * 3 + [True] * 6
    assert set(rows.status) == {Status.OK}
    assert set(rows.n_tokens) == {6}
    assert [len(gaps) for gaps in rows.gaps_ms] == [5] * 9
    assert rows.n_prompt == [len(each["text"].split()) + 4 for each in told["requests"]]
    instants = (rows.scheduled_ms, rows.sent_ms, rows.first_ms, rows.last_ms, rows.done_ms)
    for instant in zip(*instants, strict=True):
        known = [each for each in instant if each is not None]
        assert len(known) == 5
        assert known == sorted(known)
    # What the client saw lies around what the server did: it asked before and read after.
    for first, sent, true in zip(rows.first_ms, rows.sent_ms, rows.prompt_duration_ms, strict=True):
        assert first is not None
        assert sent is not None
        assert true is not None
        assert first - sent > true >= 1


def test_each_prompt_starts_with_a_number_never_used_before(server: Server) -> None:
    wanted = plan(server)
    measure(wanted)
    measure(wanted)
    texts = [each["text"] for each in log(server)["requests"]]
    assert len({text.split()[0] for text in texts}) == len(texts) == 18
    without = [text.split(" ", 1)[1] for text in texts]
    assert without[:9] == without[9:], "the same seed sends the same prompts in the same order"
    measure(plan(server, nonce=False, seed=2))
    others = [each["text"] for each in log(server)["requests"]]
    assert all(text.startswith("Room: ") for text in others)
    assert others != without[:9]


@pytest.mark.parametrize("api", ["ollama", "openai"])
def test_streams_keep_their_number_until_work_runs_out(server: Server, api: str) -> None:
    result, _ = measure(plan(server, api=api, kind="throughput", concurrency=4, n_requests=20))
    told = log(server)
    assert told["most_at_once"] == 4
    assert len(told["requests"]) == 4 + 20 + 3
    assert sum(result.requests.measured) >= 20
    assert set(result.requests.n_tokens) == {6}
    assert result.window is not None
    ends = [each or 0.0 for each in result.requests.done_ms]
    assert result.window.end_ms <= max(ends) + 50
    if api == "openai":
        assert set(result.requests.n_cached) == {3}
        assert told["requests"][0]["body"]["stream_options"] == {"include_usage": True}


def test_thinking_counts_as_first_content_but_not_as_answer(server: Server) -> None:
    for api in ("ollama", "openai"):
        rows = measure(plan(server, {"thinking": 3, "gap_ms": 4}, api=api))[0].requests
        for first, answer, gaps in zip(rows.first_ms, rows.first_answer_ms, rows.gaps_ms, strict=True):
            assert first is not None
            assert answer is not None
            assert answer == pytest.approx(first + sum(gaps[:3]), abs=0.01)
            assert answer > first


@pytest.mark.parametrize(
    ("api", "fault", "status", "words"),
    [
        ("ollama", "status", Status.HTTP, "HTTP 503: server busy"),
        ("openai", "status", Status.HTTP, "HTTP 503: server busy"),
        ("ollama", "drop", Status.BROKEN, "broke in the middle"),
        ("ollama", "undone", Status.BROKEN, "ended before it said that it is done"),
        ("openai", "undone", Status.BROKEN, "ended before it said that it is done"),
        ("ollama", "error", Status.ENGINE, "the model's process ended"),
        ("openai", "error", Status.ENGINE, "the model's process ended"),
        ("ollama", "garbage", Status.BROKEN, "not what"),
        ("openai", "garbage", Status.BROKEN, "not what"),
        ("ollama", "long", Status.BROKEN, "larger than"),
        ("ollama", "hang", Status.TIMEOUT, "not done within 2 s"),
    ],
)
def test_failures_are_sorted_by_what_happened(
    server: Server, api: str, fault: str, status: Status, words: str
) -> None:
    timeout_s = 2 if fault == "hang" else 60
    wanted = plan(server, {"fault": fault, "every": 3}, api=api, n_requests=3, timeout_s=timeout_s)
    rows = measure(wanted)[0].requests
    assert rows.status == [Status.OK, Status.OK, status] * 2
    assert rows.n_tokens == [6, 6, None] * 2
    for each, error in zip(rows.status, rows.error, strict=True):
        assert (each is Status.OK) == (error is None)
        assert error is None or words in error
    assert all(each is not None for each in rows.done_ms), "a failure has its instant"


def test_refused_first_connection_is_an_error_of_the_request(server: Server) -> None:
    rows = measure(plan(server, {"fault": "refuse"}))[0].requests
    assert set(rows.status) == {Status.CONNECTION}
    assert set(rows.n_tokens) == {None}


def test_kept_connection_found_closed_is_no_error(server: Server) -> None:
    rows = measure(plan(server, {"closes_kept": True}))[0].requests
    assert set(rows.status) == {Status.OK}
    assert len(log(server)["requests"]) == len(rows.status)


def test_open_loop_keeps_its_schedule_however_slow_the_engine_is(server: Server) -> None:
    wanted = plan(server, {"ttft_ms": 400}, kind="load", rate_per_s=40, arrivals="constant", n_requests=12)
    result, _ = measure(wanted)
    rows = result.requests
    told = log(server)
    assert rows.scheduled_ms == pytest.approx([25 * number for number in range(15)], abs=0.01)
    assert told["most_at_once"] > 8, "it did not wait for answers"
    assert set(rows.stream) == {-1}
    assert rows.measured == [False] * 3 + [True] * 12
    assert result.window is not None
    assert result.window.end_ms - result.window.start_ms == pytest.approx(300, abs=0.01)


def test_users_think_between_requests(server: Server) -> None:
    wanted = plan(server, kind="load", concurrency=3, think_time_s=0.03, n_requests=9)
    result, _ = measure(wanted)
    rows = result.requests
    assert set(rows.stream) == {0, 1, 2}
    assert sum(rows.measured) >= 9
    for user in range(3):
        mine = [number for number, stream in enumerate(rows.stream) if stream == user]
        for before, after in pairwise(mine):
            ended = rows.done_ms[before]
            assert ended is not None
            assert rows.scheduled_ms[after] > ended
    assert rows.scheduled_ms[0] > 0, "the first request waits too, so that users do not start as one"


def test_pictures_go_to_a_model_that_takes_them_and_words_to_others(server: Server) -> None:
    for api in ("ollama", "openai"):
        result, _ = measure(plan(server, api=api, workload="image_analysis"))
        assert {each["n_images"] for each in log(server)["requests"]} == {1}
        assert not any("described" in note for note in result.notes)
        result, _ = measure(plan(server, {"refuse_images": True}, api=api, workload="image_analysis"))
        told = log(server)["requests"]
        assert {each["n_images"] for each in told} == {0}
        assert all("Seen: " in each["text"] for each in told)
        assert any("described in words" in note for note in result.notes)


def test_synthetic_prompts_have_the_asked_length(server: Server) -> None:
    wanted = plan(server, workload=None, num_predict=None, prompt_tokens=100, output_tokens=7)
    rows = measure(wanted)[0].requests
    assert set(rows.n_tokens) == {7}
    assert all(n is not None and abs(n - 100) <= 1 for n in rows.n_prompt)
    texts = [each["text"] for each in log(server)["requests"]]
    assert len(set(texts)) == len(texts)


def test_key_and_headers_are_sent_and_not_kept(server: Server) -> None:
    wanted = plan(server, api="openai", api_key="sk-secret", headers={"X-Team": "blue"})
    done = run(wanted.for_process())
    headers = log(server)["requests"][0]["headers"]
    assert headers["authorization"] == "Bearer sk-secret"
    assert headers["x-team"] == "blue"
    assert "sk-secret" not in done.stdout + done.stderr
    assert "blue" not in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "plan: "),
        ("{", "plan: "),
        (
            '{"url": "http://h", "model": "m", "n_requests": 5, "workload": "poems"}',
            "workload: must be one of",
        ),
        ('{"url": "http://h", "model": "m", "n_requests": "many", "workload": "mixed"}', "n_requests: "),
    ],
)
def test_bad_plan_ends_with_2_and_names_the_field(text: str, words: str) -> None:
    done = run(text)
    assert done.returncode == 2
    assert done.stderr.startswith(words)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_engine_that_cannot_be_measured_ends_with_3_and_one_sentence(server: Server) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    for wanted, words in (
        (plan(server, url=nobody), f"{nobody} can't be reached: Connection refused."),
        (plan(server, model="unknown"), "model unknown: HTTP 404: model 'unknown' not found."),
    ):
        done = run(wanted.for_process())
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
        assert done.stdout == ""


def start(wanted: Plan) -> tuple[subprocess.Popen[str], IO[str]]:
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=BASE_DIR
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(wanted.for_process())
    process.stdin.close()
    return process, process.stdout


@pytest.mark.parametrize("kind", ["throughput", "open"])
def test_sigterm_keeps_what_was_measured(server: Server, kind: str) -> None:
    changes: dict[str, Any] = (
        {"kind": "load", "rate_per_s": 30} if kind == "open" else {"kind": "throughput", "concurrency": 4}
    )
    wanted = plan(server, {"gap_ms": 30}, n_requests=5000, n_warmup=500, **changes)
    process, out = start(wanted)
    with process, out:
        for line in out:
            message = json.loads(line)
            if message["type"] == "progress" and message["done"]:
                break
        assert message["total"] >= 5500
        process.send_signal(signal.SIGTERM)
        *_, last = out
        assert process.wait(10) == 0
    message = json.loads(last)
    assert message["complete"] is False
    rows = Result.model_validate(message["result"]).requests
    assert rows.status.count(Status.OK) >= 1
    assert rows.status.count(Status.CUT) >= 1
    assert set(rows.status) == {Status.OK, Status.CUT}
    assert not any(
        measured for measured, each in zip(rows.measured, rows.status, strict=True) if each is Status.CUT
    )
    wait_for(lambda: log(server)["running"] == 0, "the server sees that the client left")


def test_sigterm_before_the_first_answer_still_prints_a_result(server: Server) -> None:
    wanted = plan(server, {"ttft_ms": 20_000})
    process, out = start(wanted)
    with process, out:
        wait_for(lambda: log(server)["running"] == 1, "the probe is under way")
        process.send_signal(signal.SIGTERM)
        message = json.loads(out.read())
        assert process.wait(10) == 0
    assert message["complete"] is False
    assert message["result"]["window"] is None
    assert message["result"]["requests"]["status"] == []


def test_it_ends_when_nobody_reads_any_more(server: Server) -> None:
    process, out = start(plan(server, {"gap_ms": 30}, n_requests=5000, n_warmup=500))
    out.readline()
    out.close()
    assert process.wait(30) == 1
