"""Labelled prompts of people: kept by name, measured with, and never mixed with others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from inference.errors import JobInputError
from inference.jobs import charts, services
from inference.jobs.parameters import JobParameters, check
from inference.models import ModelJob, PromptSet, Variant
from inference.prompt_sets.selectors import shipped
from inference.prompt_sets.services import add_prompts
from inference.quality.labelled import MAX_BYTES
from inference.work.engine import EngineClient
from tests.inference.serving import Server

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]
LINES = [{"prompt": f"Room: hall. Seen: shoes on step {number}.", "answer": "1. Tidy"} for number in range(4)]
TEXT = "\n".join(map(json.dumps, LINES)).encode()
FEW = ["--n-prompts=2", "--n-tokens=4", "--n-scored=3", "--n-pairs=0", "--num-ctx=256"]


@pytest.fixture
def copy_name(engine: Server) -> Iterator[str]:
    """Another name for the sample model."""
    client = EngineClient(engine.url, num_ctx=256)
    for _ in client.create("copy:one", **{"from": "aicleaner-sample", "system": "Another manifest."}):
        pass
    yield "copy:one"
    client.delete("copy:one")
    client.close()


def upload(client: Client, content: bytes, name: str = "", file: str = "hall.jsonl") -> Any:
    return client.post("/models/prompts/", {"name": name, "file": SimpleUploadedFile(file, content)})


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"prompt": ' + b"1" * 5000 + b"}", b'{"prompt": "\\ud800", "answer": "x"}']
)
def test_lines_at_the_edge_of_json_are_said_to_be_wrong(staff: Client, line: bytes) -> None:
    answer = upload(staff, TEXT + b"\n" + line)
    assert answer.status_code == 400
    assert "Line 5" in answer.content.decode()
    assert not PromptSet.objects.exists()


def test_a_set_is_uploaded_listed_shown_and_deleted(staff: Client) -> None:
    assert upload(staff, TEXT)["Location"] == "/models/prompts/"
    row = PromptSet.objects.get()
    assert (row.name, row.n, row.who, row.text.encode()) == ("hall", 4, "boss", TEXT)
    page = staff.get("/models/prompts/").content.decode()
    assert "/models/prompts/hall/" in page
    assert f">{len(shipped().labelled)}<" in page
    assert "shoes on step 3" in staff.get("/models/prompts/hall/").content.decode()
    assert "the first 20" in staff.get("/models/prompts/household/").content.decode()
    assert '<option value="hall">hall (4)</option>' in staff.get("/models/jobs/new/").content.decode()
    staff.post("/models/prompts/hall/delete/")
    assert not PromptSet.objects.exists()
    assert staff.get("/models/prompts/hall/").status_code == 404


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b'{"prompt": "a", "answer": "b"}\n{"prompt": "a"}', "x", "Line 2, the line: "),
        (b"no json", "x", "Line 1 is no JSON"),
        (b"\n\n", "x", "The file has no prompt."),
        (b"\xff\xfe", "x", "The file is no UTF-8 text."),
        (b" " * (MAX_BYTES + 1), "x", "The file is larger than 4 MiB."),
        (TEXT, "a b", "is no name for a set"),
        (TEXT, "../etc", "is no name for a set"),
        (TEXT, "household", "is the name of the shipped set"),
        (TEXT, "taken", "There is a prompt set taken with other content"),
    ],
)
def test_a_bad_file_or_name_is_refused_with_a_sentence(
    staff: Client, content: bytes, name: str, problem: str
) -> None:
    add_prompts("taken", b'{"prompt": "a", "answer": "b"}', who="tom", now=timezone.now())
    answer = upload(staff, content, name)
    assert answer.status_code == 400
    assert problem in answer.content.decode()
    assert PromptSet.objects.count() == 1


def test_a_set_in_use_stays_and_only_staff_change_any(staff: Client, client: Client) -> None:
    row = add_prompts("hall", TEXT, who="tom", now=timezone.now())
    parameters = JobParameters(engine_kind="embedded", level="q4_0", prompts="hall")
    source, target = check("quantize", "aicleaner-sample", "", parameters)
    job = services.create_job(
        "quantize",
        source,
        target,
        parameters,
        host=settings.HOST_NAME,
        who="mia",
        user=None,
        now=timezone.now(),
    )
    answer = staff.post("/models/prompts/hall/delete/", follow=True)
    assert f"Model job {job.pk} (queued) needs hall." in answer.content.decode()
    assert PromptSet.objects.get() == row
    with pytest.raises(JobInputError, match="There is no prompt set 'attic'; there is household, hall"):
        check("quantize", source, "", parameters.model_copy(update={"prompts": "attic"}))
    assert client.get("/models/prompts/").status_code == 302
    client.force_login(User.objects.create(username="guest"))
    assert client.get("/models/prompts/hall/").status_code == 200
    assert upload(client, TEXT, "other").status_code == 403
    assert client.post("/models/prompts/hall/delete/").status_code == 403


def test_the_measures_say_which_set_and_pictures_do_not_mix_them(
    tmp_path: Path, copy_name: str, capsys: pytest.CaptureFixture[str], staff: Client
) -> None:
    file = tmp_path / "hall.jsonl"
    file.write_bytes(TEXT)
    call_command("quality", "aicleaner-sample", "tiny-script", "--n-prompts=0", "--n-scored=1", "--n-pairs=0")
    call_command("quality", "aicleaner-sample", copy_name, f"--prompts={file}", *FEW, "--json")
    captured = capsys.readouterr()
    assert "is the prompt set hall (4 prompts)." in captured.err
    ours = Variant.objects.get(name=copy_name)
    row = PromptSet.objects.get()
    recorded = {"name": "hall", "sha256": row.sha256, "n": 4}
    assert ours.measure("quality", "prompts") == recorded
    assert ours.measure("score", "prompts") == recorded
    assert ours.measure("score", "n") == 3
    theirs = Variant.objects.get(name="tiny-script:latest")
    assert theirs.measure("score", "prompts", "name") == "household"
    assert ModelJob.objects.first() is not None

    kl = {"kl": {"value": 0.1, "interval": None}, "same_top": {"value": 0.9, "interval": None}}
    Variant.objects.filter(pk=theirs.pk).update(
        measures={**theirs.measures, "quality": kl}
    )  # before there were sets
    pictures = charts.pictures_of(list(Variant.objects.all()))
    assert sorted(each.alternative.split(" measured on the prompts ")[1].split(",")[0] for each in pictures) == [
        "hall", "household",
    ]  # fmt: skip
    page = staff.get("/models/variants/").content.decode()
    assert "plot-variants-1-1" in page
    assert "plot-variants-1-2" in page
    assert "prompts hall" in page
    with pytest.raises(CommandError, match="prompts: There is no prompt set 'attic'"):
        call_command("quality", "aicleaner-sample", copy_name, "--prompts=attic", *FEW)
    file.write_bytes(TEXT.replace(b"Tidy", b"Sweep"))
    with pytest.raises(
        CommandError, match=r"prompts: .*hall.jsonl: There is a prompt set hall with other content"
    ):
        call_command("quality", "aicleaner-sample", copy_name, f"--prompts={file}", *FEW)
