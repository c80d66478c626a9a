"""Model jobs on the real engine: what they make, measure and leave behind, however they end."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from inference.errors import BusyError, JobInputError, NotAllowedError
from inference.jobs import execution, services
from inference.jobs.parameters import JobParameters, check, suggested_target
from inference.models import JobState, ModelJob, Variant
from inference.models.job import LEASE
from inference.sample_model.evaluate import FILE
from inference.work import make
from inference.work.engine import EngineClient
from inference.work.messages import WorkError
from inference.work.plan import Measures
from monitoring.models import Event
from tests.inference.serving import Server
from tests.inference.stand_in import StandIn

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]
SOURCE = "aicleaner-sample:latest"
FEW = Measures(n_prompts=3, n_tokens=6, n_scored=3, n_pairs=2, num_predict=8, num_ctx=256)
NONE = Measures(n_prompts=0, n_scored=0, n_pairs=0)


@pytest.fixture
def engines(engine: Server, settings: Any) -> None:
    """No Ollama answers; the embedded engine does."""
    settings.ENGINES = [
        {"kind": "ollama", "url": "http://127.0.0.1:1"},
        {"kind": "embedded", "url": engine.url},
    ]


def make_job(level: str = "q4_0", target: str = "", kind: str = "quantize", **changes: Any) -> ModelJob:
    parameters = JobParameters.model_validate(
        {"engine_kind": "embedded", "level": level, "measures": FEW, **changes}
    )
    source, target = check(kind, SOURCE, target, parameters)
    return services.create_job(
        kind, source, target, parameters, host=settings.HOST_NAME, who="mia", user=None, now=timezone.now()
    )


def run_it(job: ModelJob, **kwargs: Any) -> ModelJob:
    started = services.start_next_job(host=settings.HOST_NAME, now=timezone.now())
    assert started == job
    execution.execute(started, **{"stopping": lambda: "", "stopped_as": JobState.INTERRUPTED, **kwargs})
    job.refresh_from_db()
    return job


def nothing_is_left(job: ModelJob) -> bool:
    return not execution.work_folder(job).exists()


def test_a_variant_of_a_type_that_only_we_make_is_made_measured_and_kept(client_of: EngineClient) -> None:
    job = run_it(make_job("iq4_nl", "made:iq4"))
    try:
        assert (job.state, job.reason) == (JobState.DONE, "")
        variant = Variant.objects.get()
        assert variant.name == "made:iq4"
        assert variant.maker == "own"
        assert variant.quantization == "IQ4_NL"
        assert variant.size_ratio < 0.35
        assert variant.digest == client_of.tag("made:iq4").digest
        assert variant.measure("speed", "decode_tokens_per_s", "n_pairs") == 2
        assert 0 < variant.measure("quality", "kl", "value") < 0.1
        assert variant.measure("quality", "n_positions") == 18
        assert variant.measure("score", "n") == 3
        assert [each["step"] for each in job.steps][:2] == ["quantize", "hand over"]
        assert nothing_is_left(job)
        texts = list(Event.objects.filter(kind="job").order_by("id").values_list("text", flat=True))
        assert texts == [
            f"model job {job.pk} started: quantize {SOURCE} -> made:iq4",
            f"model job {job.pk} done",
        ]
    finally:
        client_of.delete("made:iq4")


def test_what_the_engine_makes_itself_is_the_same_as_ours(client_of: EngineClient) -> None:
    digests = []
    for maker, name in (("engine", "made:theirs"), ("own", "made:ours")):
        assert run_it(make_job("q4_K_M", name, maker=maker, measures=NONE)).state == JobState.DONE
        digests.append(client_of.file_of(name))
        client_of.delete(name)
    assert digests[0] == digests[1]  # files are named by their content


def test_two_models_that_exist_are_measured_and_a_second_time_replaces_the_first(
    client_of: EngineClient,
) -> None:
    # The twin is the same file: everything must come out without a difference.
    job = run_it(make_job("", "tiny-ref", kind="measure"))
    assert (job.state, job.reason) == (JobState.DONE, "")
    variant = Variant.objects.get()
    assert variant.maker == ""
    assert variant.measure("quality", "kl", "value") < 1e-6
    assert variant.measure("quality", "same_top", "value") == 1
    assert (variant.measure("score", "n_lost"), variant.measure("score", "n_won")) == (0, 0)
    run_it(make_job("", "tiny-ref", kind="measure", measures=FEW.model_copy(update={"n_prompts": 4})))
    assert Variant.objects.get().measure("quality", "n_prompts") == 4


def test_a_cancelled_job_leaves_no_model_and_no_file(client_of: EngineClient) -> None:
    job = make_job("q2_k", "made:cancelled")

    def watch(message: dict[str, Any]) -> None:
        if message["type"] == "step" and message["step"] == "quantize":
            ModelJob.objects.filter(pk=job.pk).update(
                cancel_asked_at=timezone.now(), reason="cancelled by mia"
            )

    run_it(job, watch=watch)
    assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled by mia")
    assert nothing_is_left(job)
    # It may have been finished in the moment of the cancel: then it is whole, and on record.
    made = "made:cancelled" in client_of.tags()
    assert made == Variant.objects.exists()
    if made:
        client_of.delete("made:cancelled")


def test_a_stopped_worker_leaves_it_interrupted() -> None:
    job = run_it(make_job("q4_0", "made:stopped"), stopping=lambda: "the worker was stopped")
    assert (job.state, job.reason) == (JobState.INTERRUPTED, "the worker was stopped")
    assert nothing_is_left(job)


def test_a_lost_lease_ends_the_job_and_its_folder_goes() -> None:
    job = make_job("q4_0", "made:lost")
    now = timezone.now()
    started = services.start_next_job(host=settings.HOST_NAME, now=now)
    assert started is not None
    folder = execution.work_folder(job)
    folder.mkdir(parents=True)
    (folder / "variant.gguf.1.part").write_bytes(b"half")
    assert services.interrupt_lost_jobs(now=now + LEASE - timedelta(seconds=1)) == []
    execution.remove_what_lost_jobs_left()
    assert folder.exists()  # it is running
    assert services.interrupt_lost_jobs(now=now + LEASE + timedelta(seconds=1)) == [job]
    execution.remove_what_lost_jobs_left()
    assert not folder.exists()


def test_a_full_disk_is_known_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The work runs in a process of its own; the check itself is asked here."""
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=2**20))
    with pytest.raises(WorkError, match=r"has 1 MiB free, and 4 MiB are needed"):
        make._look_for_room(FILE, "q4_0", [tmp_path, tmp_path])


def test_one_job_runs_at_a_time_and_the_next_waits(engine: Server) -> None:
    first, second = make_job("q4_0", "made:a"), make_job("q8_0", "made:b")
    now = timezone.now()
    assert services.start_next_job(host=settings.HOST_NAME, now=now) == first
    assert services.start_next_job(host=settings.HOST_NAME, now=now) is None
    with pytest.raises(BusyError):
        services.create_job(
            "measure", SOURCE, "x", JobParameters(engine_kind="embedded"), host=settings.HOST_NAME,
            who="mia", user=None, now=now, running=True,
        )  # fmt: skip
    services.cancel_job(second, who="mia", now=now)
    second.refresh_from_db()
    assert (second.state, second.reason) == (JobState.CANCELLED, "cancelled by mia")
    with pytest.raises(NotAllowedError):
        services.cancel_job(second, who="mia", now=now)


@pytest.mark.parametrize(
    ("field", "kind", "source", "target", "changes"),
    [
        ("engine", "quantize", SOURCE, "", {"engine_kind": "ollama"}),
        ("engine", "quantize", SOURCE, "", {"engine_kind": "cloud"}),
        ("source", "quantize", "nobody", "", {}),
        ("source", "quantize", "../etc", "", {}),
        ("level", "quantize", SOURCE, "", {"level": "q9"}),
        ("target", "quantize", SOURCE, "tiny-ref", {}),
        ("target", "quantize", SOURCE, "a b", {}),
        ("target", "measure", SOURCE, "nobody", {}),
        ("target", "measure", SOURCE, "aicleaner-sample", {}),
    ],
)
def test_bad_input_names_its_field(
    field: str, kind: str, source: str, target: str, changes: dict[str, Any]
) -> None:
    parameters = JobParameters.model_validate({"engine_kind": "embedded", "level": "q4_0", **changes})
    with pytest.raises(JobInputError) as caught:
        check(kind, source, target, parameters)
    assert caught.value.field == field


def test_a_name_that_differs_in_its_capitals_only_is_taken() -> None:
    """Ollama would write over it."""
    with pytest.raises(JobInputError, match="There is a model tiny-script:latest already"):
        make_job("q4_0", "Tiny-Script")


def test_the_command_asks_the_engine_that_has_the_model(
    ollama: StandIn, engine: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another one answers first."""
    few = ("--n-prompts=0", "--n-scored=0", "--n-pairs=0")
    call_command("quality", "aicleaner-sample", "tiny-ref", *few, "--json")
    assert json.loads(capsys.readouterr().out)["parameters"]["engine_kind"] == "embedded"
    with pytest.raises(CommandError, match=r"source: The engine has no model nothing:latest\. It has none\."):
        call_command("quality", "nothing", "tiny-ref", *few)


def test_the_suggested_name_keeps_the_tag() -> None:
    assert suggested_target("llama3", "q4_K_M") == "llama3:q4_K_M"
    assert suggested_target("hf.co/a/b:7b-fp16", "q8_0") == "hf.co/a/b:7b-fp16-q8_0"


def test_an_engine_that_dies_fails_the_job_with_a_sentence(settings: Any) -> None:
    job = make_job("q4_0", "made:dead")
    settings.ENGINES = [{"kind": "embedded", "url": "http://127.0.0.1:1"}]
    run_it(job)
    assert (job.state, job.reason) == (JobState.FAILED, "The engine does not answer.")
    assert nothing_is_left(job)


def test_the_command_makes_and_prints(capsys: pytest.CaptureFixture[str], client_of: EngineClient) -> None:
    few = ["--n-prompts=2", "--n-tokens=4", "--n-scored=2", "--n-pairs=1", "--num-predict=8", "--num-ctx=256"]
    call_command("quantize", "aicleaner-sample", "q8_0", "--target=made:by-command", "--json", *few)
    answer = json.loads(capsys.readouterr().out)
    assert answer["state"] == "done"
    assert answer["variant"]["quantization"] == "Q8_0"
    call_command("quality", "aicleaner-sample", "made:by-command", *few)
    assert "Divergence (KL)" in capsys.readouterr().out
    client_of.delete("made:by-command")
    with pytest.raises(CommandError, match="level: 'q9' is no type"):
        call_command("quantize", "aicleaner-sample", "q9")
    with pytest.raises(CommandError, match=r"--n-pairs: .*less than or equal to 100"):
        call_command("quality", "aicleaner-sample", "tiny-ref", "--n-pairs=1000")


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create(username="boss", is_staff=True))
    return client


def test_the_form_starts_a_job_and_keeps_what_was_typed_when_it_is_wrong(
    staff: Client, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    page = staff.get("/models/jobs/new/?kind=quantize").content.decode()
    assert f"embedded|{SOURCE}" in page
    assert "ollama: The engine does not answer." in page
    numbers = {name: getattr(FEW, name) for name in Measures.model_fields}
    good = {"kind": "quantize", "source": f"embedded|{SOURCE}", "level": "Q4_0", "maker": "auto", **numbers}
    bad = staff.post("/models/jobs/new/", {**good, "target": "no name", "n_pairs": 1000})
    text = bad.content.decode()
    assert "Ensure this value is less than or equal to 100." in text
    assert 'value="no name"' in text
    assert not ModelJob.objects.exists()
    wrong = staff.post("/models/jobs/new/", {**good, "target": "no name"}).content.decode()
    assert "is no model name" in wrong
    answer = staff.post("/models/jobs/new/", {**good, "target": "made:form"})
    job = ModelJob.objects.get()
    assert answer["Location"] == f"/models/jobs/{job.pk}/"
    assert (job.target, job.who, job.state) == ("made:form", "boss", JobState.QUEUED)
    staff.post(f"/models/jobs/{job.pk}/cancel/")
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    staff.post(f"/models/jobs/{job.pk}/retry/")
    again = ModelJob.objects.exclude(pk=job.pk).get()
    assert (again.retry_of, again.kind, again.target) == (job, "quantize", "made:form")


def test_only_staff_make_models_and_nobody_without_a_login_sees_any(client: Client) -> None:
    job = make_job("q4_0", "made:theirs-only")
    for path in ("jobs/", "jobs/new/", f"jobs/{job.pk}/", f"jobs/{job.pk}/json/", "variants/"):
        assert client.get(f"/models/{path}").status_code == 302
    client.force_login(User.objects.create(username="guest"))
    assert client.get("/models/jobs/new/").status_code == 403
    assert client.post(f"/models/jobs/{job.pk}/cancel/").status_code == 403
    assert client.post(f"/models/jobs/{job.pk}/retry/").status_code == 403
    assert client.get(f"/models/jobs/{job.pk}/").status_code == 200


def test_the_lists_ask_the_database_a_fixed_number_of_times(
    staff: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    job = make_job("q4_0", "made:rows")
    for number in range(30):
        Variant.objects.create(
            engine_kind="embedded", name=f"v{number}", digest=f"d{number}", size_bytes=number + 1, source=SOURCE,
            source_digest="s", source_size_bytes=100, made_at=timezone.now(), job=job,
            measures={"quality": {"kl": {"value": 1e-4, "interval": None}, "same_top": {"value": 1.0, "interval": None}}},
        )  # fmt: skip
    with django_assert_max_num_queries(8):
        assert b"v29" in staff.get("/models/variants/").content
    with django_assert_max_num_queries(8):
        assert b"made:rows" in staff.get("/models/jobs/").content
