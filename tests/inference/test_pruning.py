"""Which layers are dropped: the search on the real engine, its job, its pages."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import JobInputError
from inference.gguf_tools.container import read_header
from inference.gguf_tools.prune import prune_file
from inference.jobs.parameters import JobParameters, check
from inference.jobs.pruning import as_lines, pruning_of
from inference.models import JobState, ModelJob, Variant
from inference.quality.labelled import HOUSEHOLD, parse
from inference.quality.paired import Difference
from inference.sample_model.evaluate import FILE
from inference.work import pruning
from inference.work.engine import EngineClient
from inference.work.messages import WorkError
from inference.work.plan import JobPlan, Measures
from inference.work.prompts import search_prompts
from tests.inference.test_jobs import (
    FEW,
    NONE,
    SOURCE,
    make_job,
    nothing_is_left,
    run_it,
)

on_engine = pytest.mark.usefixtures("engines", "valkey_url")
FEW_PROMPTS = Measures(n_prompts=2, n_tokens=4, n_scored=0, n_pairs=0, num_ctx=256)


@pytest.fixture(scope="module")
def prompts() -> tuple[list[str], list[str]]:
    labelled = tuple(parse(HOUSEHOLD.read_text()))
    plan = JobPlan(
        kind="prune", engine_url="", engine_kind="embedded", source="a", target="b", measures=FEW_PROMPTS, labelled=labelled
    )  # fmt: skip
    return search_prompts(plan, FILE)


@pytest.fixture
def search(prompts: tuple[list[str], list[str]], tmp_path: Path) -> pruning.Pruning:
    return pruning.Pruning(FILE, tmp_path, *prompts, 4, 256)


def test_the_layer_of_the_least_measured_loss_goes_and_the_rest_is_measured_anew(
    search: pruning.Pruning, tmp_path: Path
) -> None:
    found = search.search(n_drop=2, max_loss=None)
    assert [len(each.losses) for each in found.rounds] == [6, 5]
    for number, each in enumerate(found.rounds):
        assert each.dropped == found.dropped[number] == min(each.losses, key=lambda layer: each.losses[layer])
        # What the record says is what a file without these layers costs, asked once more.
        again = search.losses(found.dropped[: number + 1], "calibration")
        assert np.concatenate(again).mean() == pytest.approx(min(each.losses.values()), rel=1e-3)
    assert found.dropped[0] not in found.rounds[1].losses
    # Layers matter differently, else there were nothing to choose.
    assert max(found.rounds[0].losses.values()) > 10 * min(found.rounds[0].losses.values())
    assert list(tmp_path.iterdir()) == []


def test_the_choice_stands_beside_controls_of_as_many_layers_on_other_prompts(
    search: pruning.Pruning,
) -> None:
    found = search.search(n_drop=1, max_loss=None)
    assert [each.name for each in found.controls] == ["the last but one", "random", "random", "random"]
    assert found.controls[0].layers == (4,)
    sets = [each.layers for each in found.controls]
    assert len(set(sets)) == 4
    assert all(set(each.layers) != set(found.dropped) for each in found.controls[1:])
    for control in found.controls:
        if control.against is None:
            assert set(control.layers) == set(found.dropped)
        else:
            losses = [each.mean() for each in search.losses(control.layers, "test")]
            assert control.against.a == pytest.approx(np.mean(losses), rel=1e-3)
    assert found.chance is not None
    drawn = [each.against.a for each in found.controls[1:] if each.against]
    assert found.chance.a == pytest.approx(np.mean(drawn), rel=1e-3)
    assert found.chance.b == pytest.approx(
        np.mean([each.mean() for each in search.losses(found.dropped, "test")]), rel=1e-3
    )


def test_a_limit_of_loss_ends_the_search_and_holds_on_the_other_prompts(search: pruning.Pruning) -> None:
    free = search.search(n_drop=3, max_loss=None)
    two, three = (free.rounds[number].losses[free.dropped[number]] for number in (1, 2))
    found = search.search(n_drop=None, max_loss=math.sqrt(two * three))
    assert found.dropped == free.dropped[:2]
    assert [each.dropped for each in found.rounds] == [*free.dropped[:2], None]
    assert found.loss == pytest.approx(np.concatenate(search.losses(found.dropped, "test")).mean(), rel=1e-3)
    # These two cost more on the other prompts; a limit between brings the last of them back.
    assert two < found.loss
    stricter = search.search(n_drop=2, max_loss=(two + found.loss) / 2)
    assert stricter.dropped == free.dropped[:1]
    assert stricter.why.endswith("1 more kept to the loss in the search only, and stayed")


def test_a_limit_that_no_layer_keeps_to_is_said_with_what_it_costs(search: pruning.Pruning) -> None:
    with pytest.raises(
        WorkError, match=r"even without layer \d, which costs least of 6, the KL is .* above 1e-09"
    ):
        search.search(n_drop=None, max_loss=1e-9)


@given(
    st.integers(2, 60).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1))
    )
)
@settings(deadline=None)
def test_controls_are_as_many_layers_of_the_model_and_never_the_choice_by_chance(
    given: tuple[int, set[int]],
) -> None:
    total, dropped = given
    first, *drawn = pruning.controls_for(dropped, total)
    assert first[0] == "the last but one"
    assert first[1][-1] == total - 2 or total == 1
    assert len(drawn) <= pruning.N_RANDOM
    sets = [frozenset(layers) for _, layers in (first, *drawn)]
    assert len(set(sets)) == len(sets)
    assert all(len(each) == len(dropped) and each <= set(range(total)) for each in sets)
    assert frozenset(dropped) not in sets[1:]


def test_random_controls_that_tell_of_different_positions_have_a_mean() -> None:
    first = [np.array([1.0, 3.0]), np.array([]), np.array([5.0])]
    second = [np.array([4.0]), np.array([]), np.array([])]
    assert [each.tolist() for each in pruning.by_chance([first, second])] == [[2.0, 4.0], [], [5.0]]


def test_what_the_controls_say_is_a_sentence() -> None:
    def control(low: float, high: float) -> pruning.Control:
        return pruning.Control("random", (1,), 1.0, Difference(1, 1, (low + high) / 2, (low, high), 3))

    same = pruning.Control("the last but one", (4,), 1.0, None)
    text = pruning.verdict([same, control(-2, -1), control(-1, 1)], Difference(1, 1, -1, (-2, -0.5), 3), 1)
    assert text.startswith(
        "less loss than random layers cost on average; beyond doubt less than 1 of the 2 other"
    )
    assert "the last but one is the same choice" in text
    assert "1 more kept to the loss in the search only" in text
    worse = pruning.verdict([control(1, 2)], Difference(1, 1, 0, (-1, 1), 3), 0)
    assert (
        worse
        == "not shown to be better than random layers; beyond doubt less than 0 of the 1 other choices, more than 1"
    )


@on_engine
@pytest.mark.django_db
def test_a_job_makes_the_shorter_model_through_the_engine_and_measures_it(
    client_of: EngineClient,
    staff: Client,
    tmp_path: Path,
) -> None:
    job = run_it(make_job("", "made:short", kind="prune", layers=1))
    try:
        assert (job.state, job.reason) == (JobState.DONE, "")
        variant = Variant.objects.get()
        assert (variant.maker, variant.quantization, variant.size_ratio < 0.95) == ("own", "F16", True)
        file = client_of.file_of("made:short")
        assert file is not None
        dropped = variant.measure("pruning", "dropped")
        prune_file(FILE, tmp_path / "again.gguf", dropped)
        assert file.read_bytes() == (tmp_path / "again.gguf").read_bytes()
        assert read_header(file).keys["llama.block_count"] == 5
        assert variant.measure("quality", "kl", "value") > 0
        assert variant.measure("score", "n") == 3
        assert variant.measure("speed", "decode_tokens_per_s", "n_pairs") == 2
        assert [each["step"] for each in job.steps][:3] == ["try layers", "write", "hand over"]
        assert nothing_is_left(job)
        record = pruning_of(variant)
        assert record is not None
        (only,) = record.rounds
        assert [bar.layer for bar in only.bars] == [0, 1, 2, 3, 4, 5]
        assert [bar.layer for bar in only.bars if bar.is_dropped] == dropped
        assert max(float(bar.share) for bar in only.bars) == 100
        for path in (f"jobs/{job.pk}/", f"variants/{variant.pk}/"):
            page = staff.get(f"/models/{path}").content.decode()
            assert record.summary in page
            assert "the last but one" in page
        assert b"F16, 5 layers, embedded" in staff.get("/models/variants/").content
        assert any("the last but one" in line for line in as_lines(record))
    finally:
        client_of.delete("made:short")


@on_engine
@pytest.mark.django_db
def test_a_quantized_model_is_pruned_as_it_is_by_the_command(
    client_of: EngineClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["--n-prompts=2", "--n-tokens=4", "--n-scored=0", "--n-pairs=0", "--num-ctx=256"]
    run_it(make_job("q8_0", "made:q8", measures=NONE))
    try:
        call_command("prune", "made:q8", "--layers=1", "--json", *few)
        answer = json.loads(capsys.readouterr().out)
        assert answer["state"] == "done"
        assert answer["target"] == "made:q8-pruned-1"
        assert answer["variant"]["quantization"] == "Q8_0"
        assert len(answer["variant"]["measures"]["pruning"]["rounds"][0]["losses"]) == 6
        client_of.delete("made:q8-pruned-1")
        with pytest.raises(SystemExit) as ended:
            call_command("prune", "made:q8", "--max-loss=1e-9", *few)
        assert ended.value.code == 3
        assert "Nothing was dropped" in ModelJob.objects.first().reason  # type: ignore[union-attr]
        assert "made:q8-pruned" not in client_of.tags()
        with pytest.raises(CommandError, match=r"layers: Say how many layers go"):
            call_command("prune", "made:q8")
    finally:
        client_of.delete("made:q8")


@on_engine
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "text", "target", "changes"),
    [
        ("layers", "Say how many layers go, or the most loss", "", {}),
        ("layers", "At least one layer has to go", "", {"layers": 0}),
        ("layers", "has 6 layers, so that at most 5 can be dropped", "", {"layers": 6}),
        ("max_loss", "a number above 0", "", {"layers": 1, "max_loss": 0}),
        ("max_loss", "a number above 0", "", {"max_loss": float("nan")}),
        ("target", "There is a model tiny-ref", "tiny-ref", {"layers": 1}),
        ("target", "is no model name", "a b", {"layers": 1}),
    ],
)
def test_bad_input_names_its_field(field: str, text: str, target: str, changes: dict[str, Any]) -> None:
    parameters = JobParameters.model_validate({"engine_kind": "embedded", **changes})
    with pytest.raises(JobInputError, match=text) as caught:
        check("prune", SOURCE, target, parameters)
    assert caught.value.field == field


@on_engine
@pytest.mark.django_db
def test_the_form_starts_it_and_says_what_is_wrong_beside_its_field(
    staff: Client,
) -> None:
    page = staff.get("/models/jobs/new/?kind=prune").content.decode()
    assert "Prune a model" in page
    assert 'name="layers"' in page
    assert 'name="maker"' not in page
    numbers = {name: getattr(FEW, name) for name in Measures.model_fields}
    good = {"kind": "prune", "source": f"embedded|{SOURCE}", "layers": "2", "max_loss": "", **numbers}
    assert (
        "at most 5 can be dropped"
        in staff.post("/models/jobs/new/", {**good, "layers": "9"}).content.decode()
    )
    assert not ModelJob.objects.exists()
    answer = staff.post("/models/jobs/new/", good)
    job = ModelJob.objects.get()
    assert answer["Location"] == f"/models/jobs/{job.pk}/"
    assert (job.kind, job.target) == ("prune", "aicleaner-sample:pruned-2")
    assert "Layers to drop" in staff.get(answer["Location"]).content.decode()
