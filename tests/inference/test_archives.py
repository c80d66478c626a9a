"""Models packed away and made again, on the real engine: what is bit for bit the same, and what is left when it goes wrong."""

import gzip
import json
import shutil
import tarfile
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from inference.archives import selectors
from inference.archives import services as archives
from inference.errors import JobInputError, NotAllowedError
from inference.jobs import execution, services
from inference.jobs.parameters import JobParameters, check
from inference.models import JobState, ModelArchive, ModelEvent, ModelJob
from inference.sample_model.evaluate import FILE
from inference.work import archive as packing
from inference.work.engine import EngineClient
from inference.work.messages import WorkError
from inference.work.plan import JobPlan, Packing
from tests.inference.serving import Server

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "data_dir", "no_gateway_before")]
SOURCE, COLD = "aicleaner-sample:latest", "cold:model"
SYSTEM, STOP = "You tidy up.\nBriefly.", ["<|end|>", "stop here"]


@pytest.fixture
def data_dir(tmp_path: Path, settings: Any, valkey_url: str) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def client_of(engine: Server) -> Iterator[EngineClient]:
    client = EngineClient(engine.url, num_ctx=256)
    yield client
    client.close()


@pytest.fixture
def cold(client_of: EngineClient) -> Iterator[str]:
    """A model of the sample's file with settings of its own."""
    what = {
        "system": SYSTEM,
        "license": "Apache-2.0",
        "template": "{{ messages[0]['content'] }} ->",
        "parameters": {"temperature": 0.25, "num_ctx": 256, "stop": STOP},
        "messages": [{"role": "user", "content": "Is it tidy?"}],
    }
    for _ in client_of.create(COLD, **{"from": SOURCE}, **what):
        pass
    yield COLD
    for name in (COLD, "cold:again"):
        if name in client_of.tags():
            client_of.delete(name)


def make_job(kind: str, source: str, target: str = "", *, delete: bool = False, **more: Any) -> ModelJob:
    parameters = JobParameters(engine_kind="embedded", delete_after=delete, **more)
    source, target = check(kind, source, target, parameters)
    return services.create_job(
        kind, source, target, parameters, host=settings.HOST_NAME, who="mia", user=None, now=timezone.now()
    )


def run_it(job: ModelJob, **kwargs: Any) -> ModelJob:
    started = services.start_next_job(host=settings.HOST_NAME, now=timezone.now())
    assert started == job
    execution.execute(started, **{"stopping": lambda: "", "stopped_as": JobState.INTERRUPTED, **kwargs})
    job.refresh_from_db()
    return job


def archived(name: str = COLD, *, delete: bool = False, **more: Any) -> ModelArchive:
    job = run_it(make_job("archive", name, delete=delete, **more))
    assert (job.state, job.reason) == (JobState.DONE, "")
    return job.archives.get()


def sha(path: Path | None) -> str:
    assert path is not None
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def test_a_model_is_archived_deleted_and_made_again_bit_for_bit(
    client_of: EngineClient, cold: str, data_dir: Path
) -> None:
    before, shown = client_of.tag(cold), client_of.show(cold)
    archive = archived(delete=True)
    assert cold not in client_of.tags()
    assert (archive.name, archive.engine_kind, archive.who) == (cold, "embedded", "mia")
    assert archive.model_digest == before.digest
    assert archive.sha256 == sha(FILE)
    assert archive.size_bytes == FILE.stat().st_size
    assert archive.archive_bytes == archive.path.stat().st_size
    assert archive.path.parent == data_dir / "archive"
    assert 0.8 < archive.ratio < 1  # F16 weights hardly compress
    assert [(each.who, each.action, each.state) for each in ModelEvent.objects.all()] == [
        ("mia", "delete", "done")
    ]

    job = run_it(make_job("unarchive", archive.file))
    assert (job.state, job.reason, job.target) == (JobState.DONE, "", cold)
    assert sha(client_of.file_of(cold)) == archive.sha256
    again = client_of.show(cold)
    for name in ("template", "system", "license", "messages", "parameters", "details"):
        assert again[name] == shown[name], name
    assert job.result["sha256"] == archive.sha256
    assert job.result["compared"] is True
    archive.refresh_from_db()
    assert archive.state == ModelArchive.State.PRESENT
    assert archive.path.is_file()
    assert not execution.work_folder(job).exists()


def test_other_tools_can_open_an_archive(cold: str) -> None:
    with tarfile.open(archived().path) as tar:
        assert tar.getnames() == ["model.gguf", "model.json"]
        model, about = tar.extractfile("model.gguf"), tar.extractfile("model.json")
        assert model is not None
        assert about is not None
        assert model.read() == FILE.read_bytes()
        told = json.load(about)
    assert (told["name"], told["create"]["system"]) == (COLD, SYSTEM)
    assert told["create"]["parameters"]["stop"] == STOP


def test_the_model_stays_unless_chosen_and_the_archive_goes_when_chosen(
    client_of: EngineClient, cold: str
) -> None:
    archive = archived()
    assert cold in client_of.tags()
    job = run_it(make_job("unarchive", cold, "cold:again", delete=True))
    assert job.state == JobState.DONE
    assert sha(client_of.file_of("cold:again")) == archive.sha256
    archive.refresh_from_db()
    assert (archive.state, archive.gone_by) == (ModelArchive.State.GONE, "mia")
    assert not archive.path.exists()
    with pytest.raises(JobInputError, match="There is no archive of 'cold:model'"):
        make_job("unarchive", cold, "cold:third")


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=2**20))


def plan_of(engine: Server, kind: str, folder: Path, **more: Any) -> JobPlan:
    return JobPlan.model_validate(
        {"kind": kind, "engine_url": engine.url, "engine_kind": "embedded", "source": COLD, "target": COLD,
         "folder": folder, **more}
    )  # fmt: skip


def test_a_full_disk_is_known_before_the_work(
    engine: Server, client_of: EngineClient, cold: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The work runs in a process of its own; here it is asked in this one, so that its disk can be full."""
    archive = archived(delete=True)
    request.getfixturevalue("little_room")
    with pytest.raises(WorkError, match=r"has 1 MiB free, and 8 MiB are needed"):
        packing.archive_model(client_of, plan_of(engine, "archive", tmp_path, source=SOURCE))
    assert not (tmp_path / packing.PACKED).exists()
    with pytest.raises(WorkError, match=r"has 1 MiB free, and 8 MiB are needed"):
        packing.unarchive_model(client_of, plan_of(engine, "unarchive", tmp_path, archive=archive.path))
    assert cold not in client_of.tags()


@pytest.mark.parametrize("moment", ["compress", "read it back"])
def test_a_cancel_in_the_middle_leaves_no_file_and_the_model(
    client_of: EngineClient, cold: str, data_dir: Path, moment: str
) -> None:
    job = make_job("archive", cold, delete=True)

    def watch(message: dict[str, Any]) -> None:
        if message["type"] == "step" and message["step"] == moment:
            ModelJob.objects.filter(pk=job.pk).update(
                cancel_asked_at=timezone.now(), reason="cancelled by mia"
            )

    run_it(job, watch=watch)
    assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled by mia")
    assert list(data_dir.rglob("*.gz")) == []
    assert not ModelArchive.objects.exists()
    assert cold in client_of.tags()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_damaged_archive_is_refused_and_the_model_not_made(
    client_of: EngineClient, cold: str, kind: Packing
) -> None:
    archive = archived(delete=True, packing=kind)
    assert archive.file.endswith({"gzip": ".tar.gz", "zstd": ".tar.zst"}[kind])
    whole = archive.path.read_bytes()
    middle = len(whole) // 2
    for damage in (
        whole[:middle],  # cut off
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],  # one bit
        whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],  # only the sum or the length at the very end
        b"no archive at all",
    ):
        archive.path.write_bytes(damage)
        job = run_it(make_job("unarchive", archive.file))
        assert job.state == JobState.FAILED
        assert job.reason.startswith(f"The archive {archive.file} is damaged")
        assert cold not in client_of.tags()
    archive.path.write_bytes(whole)
    assert run_it(make_job("unarchive", archive.file)).state == JobState.DONE
    assert sha(client_of.file_of(cold)) == sha(FILE)
    archive.path.unlink()
    with pytest.raises(JobInputError, match=r"is gone from"):
        make_job("unarchive", archive.file)


def test_an_archive_whose_model_is_another_than_it_says_is_refused(tmp_path: Path) -> None:
    """Each sum of the file is right, only the digest is not."""
    about = packing.About(name=COLD, quantization="F16", size_bytes=4, sha256="0" * 64, create={})
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "model.json").write_text(about.model_dump_json())
    with gzip.open(tmp_path / "x.tar.gz", "wb") as zipped, tarfile.open(fileobj=zipped, mode="w|") as tar:
        for name in ("model.gguf", "model.json"):
            tar.add(tmp_path / name, name)
    with pytest.raises(WorkError, match="has another digest than it says"):
        packing.read_back(tmp_path / "x.tar.gz", "check")


def test_a_model_in_use_is_kept_and_the_archive_too(client_of: EngineClient, cold: str) -> None:
    job = make_job("archive", cold, delete=True)
    parameters = JobParameters(engine_kind="embedded", level="q4_0")
    other = services.create_job(
        "quantize",
        cold,
        "cold:q4",
        parameters,
        host=settings.HOST_NAME,
        who="tom",
        user=None,
        now=timezone.now(),
    )
    run_it(job)
    assert job.state == JobState.FAILED
    assert job.reason.startswith(f"The archive is whole, but the model was not deleted: Model job {other.pk}")
    assert cold in client_of.tags()
    assert job.archives.get().path.is_file()


def test_an_archive_that_a_job_unarchives_is_not_deleted(cold: str) -> None:
    archive = archived(delete=True)
    job = make_job("unarchive", archive.file)
    with pytest.raises(NotAllowedError, match=f"Model job {job.pk}"):
        archives.delete_archive(archive, who="tom", now=timezone.now())
    assert archive.path.is_file()


@pytest.mark.parametrize(("target", "problem"), [("another.tar.gz", FileNotFoundError), ("", IntegrityError)])
def test_a_record_that_can_not_be_stored_leaves_no_file_and_touches_no_other(
    cold: str, data_dir: Path, target: str, problem: type[Exception]
) -> None:
    """Nothing lies there to move; or the name is taken."""
    archive = archived()
    job = make_job("archive", cold)
    job.target = target or archive.file
    said = {
        name: getattr(archive, name)
        for name in ("model_digest", "sha256", "size_bytes", "archive_bytes", "took_s")
    }
    (data_dir / packing.PACKED).write_bytes(b"whole")
    with pytest.raises(problem):
        archives.record_archive(
            job, "embedded", data_dir / "nowhere" if target else data_dir, said, now=timezone.now()
        )
    assert selectors.present() == [archive]
    assert list(data_dir.rglob("*.gz")) == [archive.path]
    assert (data_dir / packing.PACKED).is_file()
    assert packing.read_back(archive.path, "check").sha256 == archive.sha256


def test_the_commands_archive_and_unarchive(
    capsys: pytest.CaptureFixture[str], client_of: EngineClient, cold: str
) -> None:
    call_command("archive", cold, "--delete", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["archive"]["sha256"]) == ("done", sha(FILE))
    assert told["archive"]["ratio"] == told["archive"]["archive_bytes"] / told["archive"]["size_bytes"]
    assert cold not in client_of.tags()
    call_command("unarchive", cold)
    captured = capsys.readouterr()
    assert "unarchive cold-model-" in captured.out
    assert "check the archive: " in captured.err  # the bar
    assert sha(client_of.file_of(cold)) == told["archive"]["sha256"]
    with pytest.raises(CommandError, match="target: There is a model cold:model already"):
        call_command("unarchive", cold)
    with pytest.raises(CommandError, match="source: There is no archive of 'nobody'"):
        call_command("unarchive", "nobody")
    with pytest.raises(CommandError, match="source: The engine has no model nobody"):
        call_command("archive", "nobody")


def test_the_page_lists_archives_unarchives_and_deletes(staff: Client, cold: str) -> None:
    assert f"embedded|{COLD}" in staff.get("/models/archives/").content.decode()
    wrong = staff.post("/models/archives/", {"model": "embedded|nobody:latest", "after": "keep"})
    assert wrong.status_code == 400
    assert "Select a valid choice" in wrong.content.decode()
    answer = staff.post("/models/archives/", {"model": f"embedded|{COLD}", "after": "delete"})
    job = ModelJob.objects.get()
    assert answer["Location"] == f"/models/jobs/{job.pk}/"
    assert (job.kind, job.who, job.parameters["delete_after"]) == ("archive", "boss", True)
    run_it(job)
    archive = job.archives.get()
    page = staff.get("/models/archives/").content.decode()
    assert archive.file in page
    assert f"{archive.ratio * 100:.1f} %" in page
    assert archive.sha256 in staff.get(f"/models/jobs/{job.pk}/").content.decode()
    wrong = staff.post(
        f"/models/archives/{archive.pk}/unarchive/", {"engine": "embedded", "target": "a b", "after": "keep"}
    )
    assert "is no model name" in wrong.content.decode()
    staff.post(
        f"/models/archives/{archive.pk}/unarchive/", {"engine": "embedded", "target": COLD, "after": "keep"}
    )
    unarchiving = ModelJob.objects.get(kind="unarchive")
    assert b"unarchives it" in staff.post(f"/models/archives/{archive.pk}/delete/", follow=True).content
    run_it(unarchiving)
    assert unarchiving.state == JobState.DONE
    assert b"is compared" in staff.get(f"/models/jobs/{unarchiving.pk}/").content
    assert archive.path.is_file()
    assert archive.file in staff.get(f"/models/archives/{archive.pk}/delete/").content.decode()
    staff.post(f"/models/archives/{archive.pk}/delete/")
    assert not archive.path.exists()
    assert "deleted by boss" in " ".join(staff.get("/models/archives/").content.decode().split())
    assert staff.get(f"/models/archives/{archive.pk}/unarchive/").status_code == 404


def test_only_staff_archive_and_nobody_without_a_login_sees_any(client: Client, cold: str) -> None:
    archive = archived()
    paths = [f"/models/archives/{archive.pk}/{what}/" for what in ("unarchive", "delete")]
    for path in ("/models/archives/", *paths):
        assert client.get(path).status_code == 302
    client.force_login(User.objects.create(username="guest"))
    assert client.get("/models/archives/").status_code == 200
    assert client.post("/models/archives/", {"model": f"embedded|{cold}", "after": "keep"}).status_code == 403
    for path in paths:
        assert client.post(path).status_code == 403
    assert archive.path.is_file()
