"""Distilling as a job on the real engine: what it makes and says, how it goes on, what is refused, its pages and its command."""

import json
import os
import signal
import sys
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from inference.distillation import kept
from inference.errors import JobInputError
from inference.gguf_tools.container import read_header
from inference.jobs import execution
from inference.jobs.distilling import distillation_of
from inference.jobs.parameters import JobParameters, check
from inference.models import JobState, ModelJob, PromptSet, Variant
from inference.sample_model.evaluate import FILE
from inference.work import make_distilled
from inference.work.engine import EngineClient
from inference.work.messages import WorkError
from inference.work.plan import JobPlan, Measures
from tests.inference.serving import Server
from tests.inference.test_jobs import FEW, SOURCE, make_job, nothing_is_left, run_it

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]
needs_pytorch = pytest.mark.pytorch
LITTLE = {"layers": 2, "steps": 10, "batch": 2}
ALMOST_NONE = Measures(n_prompts=2, n_tokens=4, n_scored=0, n_pairs=0, num_ctx=256)


@pytest.fixture
def engines(engine: Server, settings: Any) -> None:
    settings.ENGINES = [{"kind": "embedded", "url": engine.url}]


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    for each in kept.kept(execution.checkpoints()):
        kept.throw_away(execution.checkpoints(), each.key)


@pytest.fixture
def no_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python itself has it: what is None here can't be imported."""
    monkeypatch.setitem(sys.modules, "torch", None)


def distil(target: str, **changes: Any) -> ModelJob:
    wanted = {"distillation": LITTLE, "measures": ALMOST_NONE, **changes}
    return make_job("", target, kind="distill", **wanted)


@needs_pytorch
def test_a_job_makes_the_student_beside_its_control_and_measures_both(
    client_of: EngineClient, staff: Client
) -> None:
    job = run_it(distil("made:student", measures=FEW))
    try:
        assert (job.state, job.reason) == (JobState.DONE, "")
        variant = Variant.objects.get()
        assert (variant.maker, variant.quantization, variant.size_ratio < 0.6) == ("pytorch", "F16", True)
        assert variant.form == "F16, 2 layers, distilled"
        file = client_of.file_of("made:student")
        assert file is not None
        header, teacher = read_header(file, arrays=True).keys, read_header(FILE, arrays=True).keys
        assert header == {**teacher, "llama.block_count": 2}
        found = variant.measure("distillation")
        assert found["kept"] == [0, 5]
        assert (found["n_examples"], found["n_held_out"], found["resumed_at"]) == (20, 3, 0)
        curves = found["curves"]
        for name in ("distilled", "control"):
            assert [each["step"] for each in curves[name]] == [0, 5, 10]
            assert curves[name][-1]["kl"] < curves[name][0]["kl"]
        # The same start: the same divergence before the first step. Then they part.
        assert curves["distilled"][0]["kl"] == curves["control"][0]["kl"]
        assert curves["distilled"][-1]["kl"] != curves["control"][-1]["kl"]
        against = found["against"]
        assert (against["n_prompts"], against["n_positions"]) == (3, 18)
        # What the engine says of the model is what llama.cpp says of the file, from shorter lists: a bound that is lower.
        assert 0.6 < variant.measure("quality", "kl", "value") / against["kl"]["b"] < 1.01
        assert against["score"]["n"] == 3
        steps = [each["step"] for each in job.steps]
        assert steps[:4] == [
            "read the teacher", "train the student", "train the control", "compare with the control",
        ]  # fmt: skip
        assert nothing_is_left(job)
        assert kept.kept(execution.checkpoints()) == []
        record = distillation_of(variant)
        assert record is not None
        for path in (f"jobs/{job.pk}/", f"variants/{variant.pk}/"):
            page = staff.get(f"/models/{path}").content.decode()
            for text in (escape(record.summary), record.pictures[0].alternative, "distilled less control"):
                assert text in page
            assert page.count("data-plot=") == 2
        assert b"F16, 2 layers, distilled" in staff.get("/models/variants/").content
        assert record.why in "\n".join(record.as_lines)
    finally:
        client_of.delete("made:student")


def _killing(step: str) -> Any:
    """SIGKILL for the process that trains, once it tells of that step; as a worker's end does."""

    def watch(message: dict[str, Any]) -> None:
        if message["type"] == "step" and message["step"] == step:
            for child in psutil.Process().children(recursive=True):
                if "inference.work" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)

    return watch


@needs_pytorch
def test_a_job_whose_process_was_killed_goes_on_and_makes_the_same_bytes(client_of: EngineClient) -> None:
    """The kill comes while the control is trained (within a step: test_distillation)."""
    assert run_it(distil("made:student")).state == JobState.DONE
    whole = Variant.objects.get().measure("distillation")
    file = client_of.file_of("made:student")
    assert file is not None
    made = file.read_bytes()
    client_of.delete("made:student")

    killed = distil("made:student")
    run_it(killed, watch=_killing("train the control"))
    assert killed.state == JobState.FAILED
    assert "made:student" not in client_of.tags()
    assert nothing_is_left(killed)
    execution.remove_what_lost_jobs_left()
    (left,) = kept.kept(execution.checkpoints())
    assert (left.job, left.target, left.total) == (killed.pk, "made:student", 20)
    assert left.done >= 10

    again = run_it(distil("made:student"))
    try:
        assert (again.state, again.reason) == (JobState.DONE, "")
        assert "read the teacher" not in [each["step"] for each in again.steps]
        found = Variant.objects.get().measure("distillation")
        assert found["resumed_at"] == left.done
        assert found["curves"] == whole["curves"]
        file = client_of.file_of("made:student")
        assert file is not None
        assert file.read_bytes() == made
        assert kept.kept(execution.checkpoints()) == []
    finally:
        client_of.delete("made:student")


@needs_pytorch
def test_a_cancelled_job_keeps_what_was_trained_until_it_is_thrown_away(
    client_of: EngineClient, staff: Client, person: Client
) -> None:
    job = distil("made:cancelled")

    def watch(message: dict[str, Any]) -> None:
        if message["type"] == "step" and message["step"] == "train the control":
            ModelJob.objects.filter(pk=job.pk).update(
                cancel_asked_at=timezone.now(), reason="cancelled by mia"
            )

    run_it(job, watch=watch)
    assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled by mia")
    assert "made:cancelled" not in client_of.tags()
    assert nothing_is_left(job)
    (left,) = kept.kept(execution.checkpoints())
    address = f"/models/jobs/kept/{left.key}/throw-away/"
    for path in (f"/models/jobs/{job.pk}/", "/models/jobs/"):
        page = staff.get(path).content.decode()
        assert f"{left.done} of 20 steps" in page
        assert address in page
        assert address not in person.get(path).content.decode()
    assert person.post(address).status_code == 403
    assert staff.get(address).status_code == 405
    answer = staff.post(address, follow=True)
    assert "was thrown away" in answer.content.decode()
    assert not (execution.checkpoints() / left.key).exists()
    assert "gone already" in staff.post(address, follow=True).content.decode()


@needs_pytorch
def test_the_command_learns_the_answers_of_the_set_with_the_layers_that_cost_least(
    client_of: EngineClient, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--n-prompts=2", "--n-tokens=4", "--n-scored=2", "--n-pairs=0", "--num-ctx=256", "--json"]
    call_command(
        "distill", "aicleaner-sample", "made:by-command", "--layers=5", "--steps=2", "--batch=2",
        "--answers=labelled", "--choice=measured", "--temperature=1", "--alpha=0.5", *few,
    )  # fmt: skip
    told = capsys.readouterr()
    try:
        answer = json.loads(told.out)
        assert (answer["state"], answer["kind"], answer["target"]) == ("done", "distill", "made:by-command")
        found = answer["variant"]["measures"]["distillation"]
        assert (found["answers"], found["choice"], found["temperature"]) == ("labelled", "measured", 1)
        assert len(found["kept"]) == 5
        assert answer["steps"][0]["step"] == "try layers"
        assert "loss" in told.err
        assert "tok/s" in told.err
    finally:
        client_of.delete("made:by-command")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--layers=0", "--layers: .*greater than or equal to 1"),
        ("--layers=6", "layers: .*has 6 layers, so that a student has 5 at most"),
        ("--alpha=0", "--alpha: .*greater than or equal to 0.01"),
        ("--alpha=nan", "--alpha: "),
        ("--temperature=-1", "--temperature: .*greater than or equal to 0.1"),
        ("--steps=0", "--steps: "),
        ("--prompts=nobody", "prompts: There is no prompt set 'nobody'"),
        ("--num-ctx=1", "--num-ctx: "),
    ],
)
def test_the_command_names_the_option_that_is_wrong(option: str, text: str) -> None:
    with pytest.raises(CommandError, match=text):
        call_command("distill", "aicleaner-sample", "--layers=2", option)
    assert not ModelJob.objects.exists()


def test_too_few_prompts_and_a_name_that_is_taken_are_refused() -> None:
    text = "\n".join(json.dumps({"prompt": f"{number}?", "answer": "yes"}) for number in range(15))
    PromptSet.objects.create(name="few", text=text, n=15, sha256="0" * 64, at=timezone.now(), who="mia")
    for field, target, changes in (
        ("prompts", "", {"prompts": "few"}),
        ("target", "tiny-ref", {}),
        ("layers", "", {"distillation": None}),
    ):
        parameters = JobParameters.model_validate(
            {"engine_kind": "embedded", "distillation": LITTLE, **changes}
        )
        with pytest.raises(JobInputError) as caught:
            check("distill", SOURCE, target, parameters)
        assert caught.value.field == field


@pytest.mark.usefixtures("no_pytorch")
def test_without_pytorch_the_command_the_form_and_the_job_say_how_to_get_it(
    staff: Client, engine: Server
) -> None:
    with pytest.raises(CommandError, match=r"pytorch: .*pip install -r requirements-train\.txt"):
        call_command("distill", "aicleaner-sample", "--layers=2")
    page = staff.get("/models/jobs/new/?kind=distill").content.decode()
    assert "pip install -r requirements-train.txt" in page
    answer = staff.post("/models/jobs/new/", _form(layers=2)).content.decode()
    assert "Nothing was started" in answer
    assert not ModelJob.objects.exists()
    plan = JobPlan(
        kind="distill", engine_url=engine.url, engine_kind="embedded", source=SOURCE, target="x:y",
        distillation=LITTLE,
    )  # fmt: skip
    client = EngineClient(engine.url, num_ctx=256)
    with pytest.raises(WorkError, match=r"pip install -r requirements-train\.txt"):
        make_distilled.make_distilled(client, plan)
    client.close()
    for other in ("prune", "quantize", "measure"):
        assert "requirements-train" not in staff.get(f"/models/jobs/new/?kind={other}").content.decode()


def _form(**changes: Any) -> dict[str, Any]:
    numbers = {name: getattr(FEW, name) for name in Measures.model_fields}
    training = {
        "steps": 50, "temperature": 3, "alpha": 0.8, "batch": 4, "learning_rate": 0.001, "seed": 1,
        "answers": "teacher", "choice": "spread",
    }  # fmt: skip
    return {"kind": "distill", "source": f"embedded|{SOURCE}", **training, **numbers, **changes}


@needs_pytorch
def test_the_form_starts_it_with_what_it_says(staff: Client) -> None:
    page = staff.get("/models/jobs/new/?kind=distill").content.decode()
    for name in ("layers", "steps", "temperature", "alpha", "answers"):
        assert f'name="{name}"' in page
    assert 'name="maker"' not in page
    answer = staff.post("/models/jobs/new/", _form(layers=2))
    job = ModelJob.objects.get()
    assert answer["Location"] == f"/models/jobs/{job.pk}/"
    assert (job.kind, job.target) == ("distill", "aicleaner-sample:distilled-2")
    asked = job.parameters["distillation"]
    assert (asked["layers"], asked["steps"], asked["temperature"], asked["alpha"]) == (2, 50, 3.0, 0.8)
    assert "Layers of the student" in staff.get(answer["Location"]).content.decode()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layers": ""}, "This field is required"),
        ({"layers": "6"}, "so that a student has 5 at most"),
        ({"layers": 2, "alpha": "1.5"}, "less than or equal to 1"),
        ({"layers": 2, "temperature": "x"}, "Enter a number"),
        ({"layers": 2, "answers": "nobody"}, "Select a valid choice"),
    ],
)
def test_the_form_says_what_is_wrong_beside_its_field(
    staff: Client, changes: dict[str, Any], text: str
) -> None:
    answer = staff.post("/models/jobs/new/", _form(**changes))
    assert answer.status_code == 200
    assert text in answer.content.decode()
    assert not ModelJob.objects.exists()


def test_somebody_without_an_account_reaches_nothing() -> None:
    answer = Client().post("/models/jobs/kept/" + "a" * 24 + "/throw-away/")
    assert answer.status_code == 302
    assert "login" in answer["Location"]
    assert not User.objects.exists()
