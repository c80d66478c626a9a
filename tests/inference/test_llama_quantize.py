"""Variants made by llama.cpp's own tool: a program in its place prints what it prints, and makes the file by our writer."""

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone

from inference.models import JobState, ModelJob, Variant
from inference.work.engine import EngineClient
from tests.inference.test_jobs import NONE, make_job, nothing_is_left, run_it
from tests.product import BASE_DIR, wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]
TOOL = f"""#!{sys.executable}
import os, pathlib, sys, time
sys.path.insert(0, {str(BASE_DIR)!r})
from inference.gguf_tools.importance import read_importance
from inference.gguf_tools.quantize import quantize_file
words, log = sys.argv[1:], pathlib.Path(os.environ["TOOL_LOG"])
log.write_text(f"{{os.getpid()}} {{' '.join(words)}}")
weights = None
if words[0] == "--imatrix":
    weights = read_importance(pathlib.Path(words[1]))
    words = words[2:]
source, made, level = words
print("main: build = 6000 (abcdef)", flush=True)
print("[   1/  57]                   token_embd.weight - [  192,  8192,     1,     1], type =    f16, size = 3.0 MB", flush=True)
if os.environ["TOOL_DOES"] == "fail":
    pathlib.Path(made).write_bytes(b"half of it")
    print("llama_model_quantize: failed to quantize: disk full", file=sys.stderr, flush=True)
    sys.exit(1)
while os.environ["TOOL_DOES"] == "hang":
    pathlib.Path(made).write_bytes(b"half of it")
    time.sleep(0.05)
quantize_file(pathlib.Path(source), pathlib.Path(made), level, importance=weights)
print("[  57/  57]                  output_norm.weight - [  192,     1,     1,     1], type =    f32, size = 0.0 MB", flush=True)
print("main: quantize time =    10.00 ms", flush=True)
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it notes its process and its words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program, noted = folder / "llama-quantize", tmp_path / "noted"
    program.write_text(TOOL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TOOL_LOG", str(noted))
    monkeypatch.setenv("TOOL_DOES", "work")
    return noted


def job_of(target: str, **more: Any) -> ModelJob:
    return make_job("iq4_nl", target, maker="llama-quantize", measures=NONE, **more)


def test_its_file_becomes_the_variant_with_progress_by_tensor(tool: Path, client_of: EngineClient) -> None:
    told: list[dict[str, Any]] = []
    job = run_it(job_of("made:by-tool"), watch=told.append)
    try:
        assert (job.state, job.reason) == (JobState.DONE, "")
        variant = Variant.objects.get()
        assert (variant.maker, variant.quantization) == ("llama-quantize", "IQ4_NL")
        assert tool.read_text().endswith(" IQ4_NL")
        steps = [each["done"] for each in told if each.get("step") == "quantize"]
        assert steps[-1] == 57
        assert nothing_is_left(job)
    finally:
        client_of.delete("made:by-tool")


def test_what_it_fails_with_is_said_and_its_half_file_goes(
    tool: Path, client_of: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOL_DOES", "fail")
    job = run_it(job_of("made:failed"))
    assert (job.state, job.reason) == (
        JobState.FAILED,
        "llama-quantize failed: llama_model_quantize: failed to quantize: disk full",
    )
    assert nothing_is_left(job)
    assert "made:failed" not in client_of.tags()


def test_a_cancel_ends_it_too(tool: Path, client_of: EngineClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_DOES", "hang")
    job = job_of("made:cancelled")

    def watch(message: dict[str, Any]) -> None:
        if message.get("step") == "quantize":
            ModelJob.objects.filter(pk=job.pk).update(cancel_asked_at=timezone.now(), reason="cancelled")

    run_it(job, watch=watch)
    assert job.state == JobState.CANCELLED
    process = int(tool.read_text().split()[0])
    wait_for(lambda: not psutil.pid_exists(process), "the tool is gone")
    assert nothing_is_left(job)
    assert "made:cancelled" not in client_of.tags()


def test_without_the_tool_the_job_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    job = run_it(job_of("made:without"))
    assert (job.state, job.reason) == (JobState.FAILED, "llama-quantize is not on the PATH of the worker.")
