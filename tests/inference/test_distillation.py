"""Training a student: the model against llama.cpp, the loss against its formula, a run broken off against a whole one."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from inference.distillation import kept
from inference.distillation.examples import Example, batch_of, points
from inference.distillation.files import read_weights, write_student
from inference.distillation.settings import Distillation, spread
from inference.distillation.shape import ShapeError, read_shape, renumbered
from inference.gguf_tools.container import Header, read_header
from inference.gguf_tools.prune import prune_file
from inference.gguf_tools.quantize import quantize_file
from inference.quality.labelled import HOUSEHOLD, parse
from inference.sample_model.evaluate import FILE
from inference.work.against_control import verdict, weighed
from inference.work.probe import probing
from inference.work.prompts import ChatTemplate
from tests.inference.layered_model import write_layers

needs_pytorch = pytest.mark.pytorch
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def header() -> Header:
    return read_header(FILE)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Prompts with the sample model's greedy answers."""
    template, found = ChatTemplate(FILE), []
    with probing(FILE, 512) as probe:
        for each in parse(HOUSEHOLD.read_text())[:6]:
            tokens = probe.tokens(template.render(each.prompt))
            found.append(Example(tokens + probe.continuation(tokens, 24), len(tokens)))
    return found


@needs_pytorch
@pytest.mark.parametrize(("level", "most"), [("f16", 0.03), ("q8_0", 0.1)])
def test_the_model_in_pytorch_says_what_llama_cpp_says(
    level: str, most: float, examples: list[Example], tmp_path: Path
) -> None:
    """Of each token of two answers the log-probabilities of the ten most likely; a quantized file is dequantized."""
    import torch

    from inference.distillation.llama import teacher_of
    from inference.distillation.training import padded

    file = FILE
    if level != "f16":
        file = tmp_path / "quantized.gguf"
        quantize_file(FILE, file, level)
    header = read_header(file)
    teacher = teacher_of(read_shape(header), read_weights(file, header))
    ids, wanted, _ = padded(examples[:2])
    ours = torch.log_softmax(teacher.logits(ids, wanted), -1)
    with probing(file, 512) as probe:
        theirs = [top for each in examples[:2] for top in probe.distributions(each.tokens, each.start)]
    assert len(theirs) == len(ours) > 30
    for mine, told in zip(ours, theirs, strict=True):
        assert told is not None
        likely = sorted(told.items(), key=lambda pair: -pair[1])[:10]
        assert int(mine.argmax()) == int(likely[0][0])
        assert all(abs(float(mine[int(token)]) - value) < most for token, value in likely if value > -9)


@needs_pytorch
def test_the_loss_is_the_formula_of_hinton_vinyals_and_dean() -> None:
    import torch

    from inference.distillation.training import mixed_loss

    random = np.random.default_rng(3)
    teacher, student = random.normal(size=(2, 5, 11)) * 3
    labels = random.integers(0, 11, 5)

    def softmax(logits: Any) -> Any:
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    p, q = softmax(teacher / 2.5), softmax(student / 2.5)
    soft = (p * np.log(p / q)).sum(-1)
    hard = -np.log(softmax(student)[np.arange(5), labels])
    found = mixed_loss(torch.tensor(teacher), torch.tensor(student), torch.tensor(labels), 0.7, 2.5)
    assert found.numpy() == pytest.approx(0.7 * 2.5**2 * soft + 0.3 * hard)
    # For high temperatures the gradient tends to (student - teacher) / vocabulary, both about their mean: T^2 holds its size.
    logits = torch.tensor(student, requires_grad=True)
    mixed_loss(torch.tensor(teacher), logits, torch.tensor(labels), 1.0, 500.0).sum().backward()
    centred = (student - student.mean(-1, keepdims=True)) - (teacher - teacher.mean(-1, keepdims=True))
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(centred / 11, abs=0.01)


def _training(header: Header, examples: list[Example], alpha: float, **more: Any) -> Any:
    from inference.distillation.llama import student_of, teacher_of
    from inference.distillation.training import Training, be_repeatable

    be_repeatable(1)
    teacher = teacher_of(read_shape(header), read_weights(FILE, header))
    wanted = Distillation(layers=2, steps=10, batch=2, learning_rate=1e-3)
    student = student_of(teacher, spread(6, 2))
    return Training(student, teacher, examples[:4], examples[4:], wanted, alpha, **more)


class KilledError(Exception):
    pass


@needs_pytorch
@pytest.mark.parametrize("alpha", [0.9, 0.0])
def test_training_that_was_broken_off_ends_bit_for_bit_as_if_it_had_not_been(
    alpha: float, header: Header, examples: list[Example], tmp_path: Path
) -> None:
    from inference.distillation import checkpoints

    whole = _training(header, examples, alpha)
    whole.run()
    assert [each.step for each in whole.points] == [0, 5, 10]
    assert whole.points[-1].kl < whole.points[0].kl
    keeper = kept.Keeper(tmp_path, _about("a" * 24))

    def kill(progress: Any) -> None:
        if progress.step == 7:
            raise KilledError

    broken = _training(header, examples, alpha, tell=kill, save=checkpoints.saving(keeper, "student", 0))
    with pytest.raises(KilledError):
        broken.run()
    again = _training(header, examples, alpha)
    assert checkpoints.load(keeper, "student", again) == 5
    again.run()
    assert again.points == whole.points
    for name, weights in whole.student.weights.items():
        assert (again.student.weights[name] == weights).all(), name
    assert keeper.about.done == 5
    assert sorted(each.name for each in keeper.folder.iterdir()) == ["about.json", "student.pt"]


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@needs_pytorch
def test_a_checkpoint_that_can_not_be_read_begins_anew_and_runs_nothing(
    header: Header, examples: list[Example], tmp_path: Path
) -> None:
    import torch

    from inference.distillation import checkpoints

    training = _training(header, examples, 0.9)
    before = {name: each.clone() for name, each in training.student.weights.items()}
    keeper = kept.Keeper(tmp_path, _about("b" * 24))
    touched = tmp_path / "touched"
    evil = pickle.dumps(Evil(touched), protocol=2)
    for content in (b"", b"half a file", evil):
        (keeper.folder / "student.pt").write_bytes(content)
        assert checkpoints.load(keeper, "student", training) == 0
    torch.save({"weights": Evil(touched)}, keeper.folder / "student.pt")
    assert checkpoints.load(keeper, "student", training) == 0
    assert not touched.exists()
    assert training.done == 0
    assert all((training.student.weights[name] == each).all() for name, each in before.items())


def test_a_student_that_was_not_trained_is_the_pruned_model(header: Header, tmp_path: Path) -> None:
    """F16 to F32 and back changes nothing; tokenizer, template and all other keys are the teacher's."""
    stay = spread(6, 4)
    assert stay == (0, 2, 3, 5)
    weights = {
        new: each
        for name, each in read_weights(FILE, header).items()
        if (new := renumbered(name, stay)) is not None
    }
    write_student(FILE, tmp_path / "student.gguf", stay, weights)
    prune_file(FILE, tmp_path / "pruned.gguf", [1, 4])
    ours, theirs = (gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("student", "pruned"))
    assert {each.name: each.data.tobytes() for each in ours.tensors} == {
        each.name: each.data.tobytes() for each in theirs.tensors
    }
    keys = [read_header(tmp_path / f"{name}.gguf", arrays=True).keys for name in ("student", "pruned")]
    assert keys[0] == keys[1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["pruned.gguf", "student.gguf"]


@pytest.mark.parametrize(
    ("n_layers", "n_kept", "layers"),
    [(6, 1, (0,)), (6, 2, (0, 5)), (6, 3, (0, 2, 5)), (6, 5, (0, 1, 2, 4, 5)), (32, 4, (0, 10, 21, 31))],
)
def test_layers_stay_at_even_distances(n_layers: int, n_kept: int, layers: tuple[int, ...]) -> None:
    assert spread(n_layers, n_kept) == layers


def test_each_pass_takes_every_example_once_and_an_order_of_its_own() -> None:
    examples = [Example([number, 0], 1) for number in range(10)]
    taken = [each.tokens[0] for step in range(6) for each in batch_of(examples, step, 5, 1)]
    passes = [taken[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert passes[0] != passes[1] != passes[2]
    assert batch_of(examples, 4, 5, 1) == batch_of(examples, 4, 5, 1)
    assert taken != [each.tokens[0] for step in range(6) for each in batch_of(examples, step, 5, 2)]
    assert points(1) == [0, 1]
    assert points(40)[:2] == [0, 5]
    assert len(points(10_000)) == 21


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"general.architecture": "gemma3"}, "its architecture is gemma3, and only llama is known"),
        ({"llama.expert_count": 8}, "it has experts"),
        ({"llama.attention.sliding_window": 512}, "its attention has a window"),
        ({"llama.rope.scaling.type": "yarn"}, "its positions are scaled"),
        ({"llama.attention.head_count_kv": None}, "head_count_kv differs from layer to layer"),
        ({"llama.context_length": "x"}, "does not say its context_length"),
    ],
)
def test_a_model_that_is_computed_otherwise_is_refused(
    keys: dict[str, Any], text: str, header: Header
) -> None:
    with pytest.raises(ShapeError, match=text):
        read_shape(dataclasses.replace(header, keys={**header.keys, **keys}))


def test_experts_are_refused_by_their_tensors_too(tmp_path: Path) -> None:
    header = read_header(write_layers(tmp_path / "in.gguf", 2, 256, has_output=True, n_experts=2))
    keys = {name: value for name, value in header.keys.items() if name != "llama.expert_count"}
    with pytest.raises(ShapeError, match=r"what its tensor blk\.0\.ffn_\w+ ?"):
        read_shape(dataclasses.replace(header, keys=keys))


def _places(student: list[float], control: list[float]) -> list[list[tuple[Any, Any, Any]]]:
    """A position for each prompt, where the teacher is sure of `a` and the others give it these probabilities."""

    def says(p: float) -> dict[bytes, float]:
        return {b"a": float(np.log(p)), b"b": float(np.log(1 - p))}

    return [[(says(0.99), says(p), says(q))] for p, q in zip(student, control, strict=True)]


@pytest.mark.parametrize(
    ("student", "control", "text"),
    [
        ([0.9, 0.8, 0.95], [0.5, 0.4, 0.6], "distilling beat plain fine-tuning"),
        ([0.5, 0.4, 0.6], [0.9, 0.8, 0.95], "plain fine-tuning beat distilling"),
        ([0.9, 0.4, 0.6], [0.6, 0.9, 0.4], "is not shown to beat"),
        ([0.9, 0.8], [0.5, 0.4], "too few held-out prompts"),
    ],
)
def test_the_interval_decides_whether_distilling_beat_its_control(
    student: list[float], control: list[float], text: str
) -> None:
    found = weighed([*_places(student, control), []], [], [])
    assert text in verdict(found)
    assert (found.n_prompts, found.n_positions, found.score) == (len(student), len(student), None)
    assert found.kl is not None
    assert found.kl.value == pytest.approx(found.kl.b - found.kl.a)
    worse = weighed(_places(student, control), [False] * 8, [True] * 8)
    assert "fewer right answers (McNemar, p = 0.0078)" in verdict(worse)
    assert "no difference in right answers" in verdict(weighed(_places(student, control), [True], [False]))


# --- what is kept -----------------------------------------------------------------------------------------


def _about(key: str, saved_at: float = NOW) -> kept.About:
    return kept.About(
        key=key, job=1, engine_kind="embedded", source="a", target="b", done=0, total=20, saved_at=saved_at
    )


def _keep(root: Path, key: str, saved_at: float) -> kept.Keeper:
    keeper = kept.Keeper(root, _about(key, saved_at))
    keeper.write(kept.ABOUT, lambda out: out.write(_about(key, saved_at).model_dump_json().encode()))
    return keeper


def test_the_newest_are_kept_and_not_for_ever(tmp_path: Path) -> None:
    keys = [character * 24 for character in "abcde"]
    for number, key in enumerate(keys):
        _keep(tmp_path, key, NOW - number * kept.DAY_S)
    assert [each.key for each in kept.kept(tmp_path)] == keys
    kept.tidy(tmp_path, now=NOW, but_for=keys[4])
    assert [each.key for each in kept.kept(tmp_path)] == [keys[0], keys[1], keys[4]]
    kept.tidy(tmp_path, now=NOW + (kept.KEEP_DAYS - 0.5) * kept.DAY_S)
    assert [each.key for each in kept.kept(tmp_path)] == [keys[0]]


def test_another_wish_has_another_key_and_the_same_has_the_same() -> None:
    one = Distillation(layers=2)
    assert kept.key_of(one.model_dump()) == kept.key_of(Distillation(layers=2).model_dump())
    for change in ({"layers": 3}, {"seed": 2}, {"alpha": 0.5}, {"temperature": 1.0}, {"answers": "labelled"}):
        assert kept.key_of(one.model_copy(update=change).model_dump()) != kept.key_of(one.model_dump())


def test_a_write_that_fails_leaves_what_was_there_before(tmp_path: Path) -> None:
    keeper = _keep(tmp_path, "a" * 24, NOW)
    keeper.write("student.pt", lambda out: out.write(b"whole"))

    def fill(out: Any) -> None:
        out.write(b"half")
        raise KilledError

    with pytest.raises(KilledError):
        keeper.write("student.pt", fill)
    assert (keeper.folder / "student.pt").read_bytes() == b"whole"
    assert sorted(each.name for each in keeper.folder.iterdir()) == ["about.json", "student.pt"]
    (keeper.folder / "student.pt.part").write_bytes(b"of a killed process")
    assert kept.Keeper(tmp_path, _about("a" * 24)).folder == keeper.folder
    assert not (keeper.folder / "student.pt.part").exists()


@pytest.mark.parametrize("key", ["../jobs", "..", "", "a" * 23, "A" * 24])
def test_nothing_but_a_key_names_a_folder(key: str, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    _keep(root, "a" * 24, NOW)
    (tmp_path / "jobs").mkdir()
    assert not kept.throw_away(root, key)
    assert (tmp_path / "jobs").exists()
    assert [each.key for each in kept.kept(root)] == ["a" * 24]
