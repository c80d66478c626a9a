"""Variants made with an importance matrix: collected, kept and used again; what was read never judges."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from inference.errors import JobInputError, NotAllowedError
from inference.gguf_tools.activations import collect
from inference.gguf_tools.container import read_header
from inference.gguf_tools.importance import read_importance, write_importance
from inference.gguf_tools.mixes import QuantizeError
from inference.jobs.importance import as_facts, folder
from inference.jobs.parameters import JobParameters, check
from inference.models import JobState, ModelJob, PromptSet, Variant
from inference.prompt_sets.services import add_prompts, delete_prompts
from inference.quality.labelled import HOUSEHOLD, parse
from inference.sample_model.evaluate import FILE
from inference.work.dynamic import Dynamic
from inference.work.engine import EngineClient
from inference.work.plan import JobPlan, Measures
from inference.work.prompts import (
    ChatTemplate,
    calibration_prompts,
    digest,
    read_for_importance,
    search_prompts,
)
from tests.inference.model_pages import text_of
from tests.inference.test_importance import random_sums
from tests.inference.test_jobs import NONE, SOURCE, make_job, nothing_is_left, run_it

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url", "few")]
ALL = Measures(n_prompts=500, n_tokens=3, n_scored=0, n_pairs=0, num_ctx=256)
LINES = HOUSEHOLD.read_text().splitlines()


@pytest.fixture
def few(settings: Any, tmp_path: Path) -> None:
    """Two sets of prompts, and a data folder of the test's own."""
    settings.DATA_DIR = tmp_path
    for name, lines in (("few", LINES[:10]), ("others", LINES[20:25])):
        add_prompts(name, "\n".join(lines).encode(), who="mia", now=timezone.now())


def prompts(first: int, last: int) -> set[str]:
    return {digest(each.prompt) for each in parse("\n".join(LINES[first:last]))}


def test_neither_a_measure_nor_the_judge_of_a_search_meets_what_was_read() -> None:
    labelled = tuple(parse("\n".join(LINES[:16])))
    other = tuple(parse("\n".join(LINES[4:20])))
    plan = JobPlan(
        kind="quantize", engine_url="", engine_kind="", source="a", target="b", level="q4_0", measures=ALL, labelled=labelled
    )  # fmt: skip
    assert calibration_prompts(plan, labelled) == list(labelled[8:])
    assert calibration_prompts(plan, other) == list(other[4:])
    unmeasured = plan.model_copy(update={"measures": NONE})
    assert calibration_prompts(unmeasured, labelled) == list(labelled)
    searched = plan.model_copy(update={"level": "dynamic"})
    _, test = search_prompts(searched, FILE)
    chosen = calibration_prompts(searched, labelled)
    assert chosen == list(labelled[8::2])
    assert not {ChatTemplate(FILE).render(each.prompt) for each in chosen} & set(test)


def test_a_set_that_a_job_is_to_read_stays() -> None:
    job = make_job("q4_0", "made:waits", importance="collect", calibration="others")
    with pytest.raises(NotAllowedError, match=rf"Model job {job.pk} \(queued\) needs others\."):
        delete_prompts(PromptSet.objects.get(name="others"))


def matrices() -> list[Path]:
    return sorted(folder().iterdir()) if folder().exists() else []


def test_a_matrix_is_collected_from_the_half_that_is_not_measured_with_and_kept(
    client_of: EngineClient,
) -> None:
    job = run_it(make_job("q2_k_s", "made:weighed", importance="collect", prompts="few", measures=ALL))
    try:
        assert (job.state, job.reason) == (JobState.DONE, "")
        assert [each["step"] for each in job.steps][:3] == [
            "answer the prompts",
            "collect activations",
            "quantize",
        ]
        assert nothing_is_left(job)
        variant, (kept,) = Variant.objects.get(), matrices()
        assert variant.form == "Q2_K_S, imatrix"
        importance = read_importance(kept)
        assert set(importance.prompts) == prompts(5, 10)
        assert (importance.datasets, importance.n_chunks, len(importance.means)) == (("few",), 5, 42)
        # ten prompts were asked for; five were read
        assert variant.measure("quality", "n_prompts") == 5
        assert dict(as_facts(variant)) == {
            "Importance matrix": "collected from few (5 prompts), for 42 tensors",
            "Its file": str(kept),
        }
        made = client_of.file_of("made:weighed")
        assert made is not None
        assert read_for_importance(made) == prompts(5, 10)
        assert read_header(made).keys["quantize.imatrix.dataset"] == "few"
        # Neither do they judge in a later measurement, which knows the file alone.
        again = run_it(make_job("", "made:weighed", kind="measure", prompts="few", measures=ALL))
        assert again.state == JobState.DONE
        assert Variant.objects.get().measure("quality", "n_prompts") == 5
    finally:
        client_of.delete("made:weighed")


def test_a_kept_matrix_is_used_by_its_name_and_its_prompts_are_left_out(client_of: EngineClient) -> None:
    changes: dict[str, Any] = {"importance": "collect", "calibration": "others", "measures": NONE}
    assert run_it(make_job("q3_K_S", "made:first", **changes)).state == JobState.DONE
    (kept,) = matrices()
    job = run_it(make_job("q3_K_S", "made:second", importance=kept.name, prompts="others", measures=ALL))
    try:
        assert (job.state, job.reason) == (JobState.DONE, "")
        assert client_of.file_of("made:first") == client_of.file_of("made:second")  # the same bytes
        variant = Variant.objects.get(name="made:second")
        assert variant.measure("quality") is None
        assert (
            variant.measure("unmeasured", "why")
            == "every prompt of the set was read for its importance matrix"
        )
        run_it(make_job("q3_K_S", "made:plain", measures=NONE))
        assert client_of.file_of("made:plain") != client_of.file_of("made:first")
        client_of.delete("made:plain")
    finally:
        client_of.delete("made:first")
        client_of.delete("made:second")


def test_a_text_is_read_in_pieces_and_not_if_it_has_what_is_measured(
    client_of: EngineClient, tmp_path: Path
) -> None:
    text = tmp_path / "rooms.txt"
    text.write_text("A room is tidy when each thing is where one looks for it. " * 60)
    changes: dict[str, Any] = {
        "importance": "collect",
        "calibration": str(text),
        "prompts": "few",
        "measures": ALL,
    }
    job = run_it(make_job("q4_0", "made:text", **changes))
    assert (job.state, job.reason) == (JobState.DONE, "")
    (kept,) = matrices()
    found = read_importance(kept)
    assert (found.datasets, found.prompts) == (("rooms.txt",), ())
    assert found.n_chunks > 3  # pieces of 256 tokens, the context
    assert Variant.objects.get().measure("quality", "n_prompts") == 10
    client_of.delete("made:text")
    text.write_text(text.read_text() + parse(LINES[3])[0].prompt)
    job = run_it(make_job("q4_0", "made:text", **changes))
    assert job.state == JobState.FAILED
    assert job.reason.startswith("rooms.txt has 1 of the prompts that the variant is to be measured with")
    assert matrices() == [kept]


def test_the_search_of_dynamic_tries_its_files_with_it(tmp_path: Path) -> None:
    template = ChatTemplate(FILE)
    asked = [template.render(each.prompt) for each in parse("\n".join(LINES[:2]))]
    search = Dynamic(FILE, tmp_path, [], asked, 4, 256)
    with pytest.raises(QuantizeError, match="Q2_K_S needs an importance matrix"):
        search.losses("q2_k_s", {}, "test")
    sums = collect(FILE, [tokens for tokens, _, _ in search.sets["test"]], 1)
    write_importance(tmp_path / "m.gguf", sums, ["few"], 2, 256)
    search.importance = read_importance(tmp_path / "m.gguf")
    assert [len(each) for each in search.losses("q2_k_s", {}, "test")] == [4, 4]


def test_a_cancel_while_it_reads_leaves_nothing(client_of: EngineClient, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text(
        "A room is tidy when each thing is where one looks for it. " * 8000
    )  # many times what a cancel takes
    changes: dict[str, Any] = {"importance": "collect", "calibration": str(text), "prompts": "few"}
    job = make_job("q4_0", "made:cancelled", measures=ALL, **changes)
    seen: list[str] = []

    def watch(message: dict[str, Any]) -> None:
        seen.append(str(message.get("step")))
        if message.get("step") == "collect activations":
            ModelJob.objects.filter(pk=job.pk).update(
                cancel_asked_at=timezone.now(), reason="cancelled by mia"
            )

    run_it(job, watch=watch)
    assert job.state == JobState.CANCELLED
    assert set(seen) == {"collect activations"}
    assert nothing_is_left(job)
    assert matrices() == []
    assert "made:cancelled" not in client_of.tags()


def test_a_matrix_of_another_model_fails_the_job_with_a_sentence(client_of: EngineClient) -> None:
    folder().mkdir()
    sums = random_sums(read_header(FILE))
    sums["blk.9.attn_q.weight"] = sums.pop("blk.5.attn_q.weight")
    write_importance(folder() / "other.gguf", sums, ["x"], 1, 512)
    job = run_it(make_job("q4_0", "made:other", importance="other.gguf", measures=NONE))
    assert job.state == JobState.FAILED
    assert job.reason.startswith(
        "other.gguf is the importance matrix of another model: it has blk.9.attn_q.weight"
    )
    assert nothing_is_left(job)
    assert "made:other" not in client_of.tags()


@pytest.mark.parametrize(
    ("field", "text", "changes"),
    [
        ("importance", "IQ2_S needs an importance matrix: have one collected", {"level": "iq2_s"}),
        ("importance", "There is no importance matrix 'none.gguf': say collect", {"importance": "none.gguf"}),
        ("importance", "no importance matrix", {"importance": str(FILE)}),
        (
            "importance",
            "F16 is the same with an importance matrix",
            {"level": "f16", "importance": "collect"},
        ),
        (
            "maker",
            "The engine itself takes no importance matrix",
            {"importance": "collect", "maker": "engine"},
        ),
        (
            "calibration",
            "no prompt set and no text 'nobody'",
            {"importance": "collect", "calibration": "nobody"},
        ),
        ("calibration", "only read when", {"calibration": "few"}),
        (
            "prompts",
            "There is no prompt set",
            {"importance": "collect", "calibration": "few", "prompts": "nobody"},
        ),
    ],
)
def test_bad_input_names_its_field(field: str, text: str, changes: dict[str, Any]) -> None:
    parameters = JobParameters.model_validate({"engine_kind": "embedded", "level": "q4_K_M", **changes})
    with pytest.raises(JobInputError, match=text) as caught:
        check("quantize", SOURCE, "", parameters)
    assert caught.value.field == field


def test_the_command_collects_and_takes_files(
    capsys: pytest.CaptureFixture[str], client_of: EngineClient
) -> None:
    few = ["--n-prompts=2", "--n-tokens=4", "--n-scored=0", "--n-pairs=0", "--num-ctx=256", "--prompts=few"]
    call_command("quantize", "aicleaner-sample", "q4_K_M", "--importance=collect", "--json", *few)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["state"], answer["target"]) == ("done", "aicleaner-sample:q4_K_M-imatrix")
    found = answer["variant"]["measures"]["importance"]
    assert (found["collected"], found["n_prompts"], found["datasets"]) == (True, 5, ["few"])
    client_of.delete(answer["target"])
    call_command(
        "quantize", "aicleaner-sample", "q2_k_s", "--importance", found["path"], "--target=made:again", *few
    )
    assert "Importance matrix  read from a file, made of few (5 prompts)" in capsys.readouterr().out
    client_of.delete("made:again")
    with pytest.raises(CommandError, match="importance: IQ1_S needs an importance matrix"):
        call_command("quantize", "aicleaner-sample", "iq1_s")


def test_the_form_offers_what_lies_there_and_the_page_says_what_it_was(
    staff: Client, client_of: EngineClient
) -> None:
    folder().mkdir()
    write_importance(folder() / "mine.gguf", random_sums(read_header(FILE)), ["x"], 1, 512)
    (folder() / "notes.txt").write_text("Rooms.")
    page = staff.get("/models/jobs/new/?kind=quantize").content.decode()
    for text in (
        'value="mine.gguf"',
        'value="notes.txt"',
        'value="others"',
        "IQ2_XS (with an importance matrix)",
    ):
        assert text in page
    numbers = {name: getattr(NONE, name) for name in Measures.model_fields}
    good = {"kind": "quantize", "source": f"embedded|{SOURCE}", "level": "Q2_K_S", "maker": "auto", **numbers}
    assert "Q2_K_S needs an importance matrix" in text_of(staff.post("/models/jobs/new/", good))
    wrong = staff.post("/models/jobs/new/", {**good, "importance": "/etc/passwd"})
    assert "Select a valid choice" in text_of(wrong)
    assert not ModelJob.objects.exists()
    answer = staff.post("/models/jobs/new/", {**good, "importance": "mine.gguf", "target": "made:form"})
    job = ModelJob.objects.get()
    assert "mine.gguf" in text_of(staff.get(answer["Location"]))
    assert run_it(job).state == JobState.DONE
    variant = Variant.objects.get()
    page = text_of(staff.get(f"/models/variants/{variant.pk}/"))
    assert "read from a file, made of x (1 pieces), for 42 tensors" in page
    assert "Q2_K_S, imatrix" in text_of(staff.get("/models/variants/"))
    client_of.delete("made:form")
