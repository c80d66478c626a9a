"""What comes into the weights: llama.cpp's own values, read by a C API whose structs nothing but these tests hold."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.gguf_tools import llama_api
from inference.gguf_tools.activations import ActivationsError, Order, collect
from inference.gguf_tools.importance import read_importance
from inference.gguf_tools.llama_api import LayoutError, check_layout
from inference.sample_model.evaluate import FILE
from tests.inference.layered_model import write_layers
from tests.inference.llama_forward import Floats, LlamaForward
from tests.inference.test_quantize import FOLDER

TEXTS = [[1, 300, 301, 45, 46, 47, 900, 12, 13, 14, 15, 16, 700, 701], [1, 8, 9, 10], [1]]


@pytest.fixture
def fresh() -> Any:
    """The layout is looked at once in a process."""
    check_layout.cache_clear()
    yield
    check_layout.cache_clear()


def test_the_structs_are_those_of_the_installed_wheel_field_by_field() -> None:
    api = llama_api.library()
    model, context = api.llama_model_default_params(), api.llama_context_default_params()
    told = {
        **{name: getattr(model, name) for name in llama_api.MODEL_DEFAULTS},
        **{name: getattr(context, name) for name in llama_api.CONTEXT_DEFAULTS},
    }
    assert told == llama_api.MODEL_DEFAULTS | llama_api.CONTEXT_DEFAULTS
    plain, chosen = check_layout()
    assert plain != chosen
    assert api.llama_version() == b"0.6.0-dev"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m.setitem(llama_api.CONTEXT_DEFAULTS, "n_ubatch", 513), "n_ubatch is 512 by default"),
        (lambda m: m.setitem(llama_api.MODEL_DEFAULTS, "use_extra_bufts", False), "use_extra_bufts is True"),
        (lambda m: m.setitem(llama_api.PROTOTYPES, "llama_decode_2", (None, [])), "it has no llama_decode_2"),
        (lambda m: m.setattr(llama_api.Tensor, "name", llama_api.Tensor.data), "its tensors are others"),
        (lambda m: m.setattr(llama_api.Batch, "logits", llama_api.Batch.token), "its batches are others"),
    ],
)
def test_another_llama_cpp_is_refused_with_a_sentence(
    change: Callable[[pytest.MonkeyPatch], None], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    with pytest.raises(LayoutError, match="install the pinned version") as caught:
        collect(FILE, TEXTS, 1)
    assert what in str(caught.value)


def alike(found: Floats, expected: Floats) -> bool:
    return bool(np.allclose(found, expected, rtol=0.02, atol=1e-3 * expected.max()))


def test_every_column_of_every_layer_has_the_sum_that_numpy_finds() -> None:
    seen: list[int] = []
    found = collect(FILE, TEXTS, 1, seen.append)
    assert seen == [1, 2, 3]
    expected = LlamaForward(FILE)
    for tokens in TEXTS:
        expected.read(tokens)
    assert found.keys() == expected.squares.keys()
    assert len(found) == 6 * 7
    for name, sums in found.items():
        assert list(sums.counts) == [sum(map(len, TEXTS))], name
        # llama.cpp rounds what it multiplies to float16
        relative = np.abs(sums.squares - expected.squares[name]).sum() / expected.squares[name].sum()
        assert relative < 2e-3, name
        assert alike(sums.squares, expected.squares[name]), name


@pytest.mark.parametrize("ending", ["gguf", "dat"])
def test_llama_imatrix_finds_the_same(ending: str) -> None:
    """llama-imatrix.gguf and .dat: what the tool of llama.cpp 0.5.0 wrote for the sample model and the tokens of
    llama-imatrix.json, read in two pieces of 256."""
    theirs = read_importance(FOLDER / f"llama-imatrix.{ending}")
    tokens = json.loads((FOLDER / "llama-imatrix.json").read_text())
    assert (theirs.datasets, theirs.n_chunks) == (("rooms.txt",), 2)
    found = collect(FILE, [tokens[:256], tokens[256:]], 1)
    assert found.keys() == theirs.means.keys()
    for name, sums in found.items():
        means = (sums.squares / sums.counts[:, None]).ravel()
        assert np.abs(means - theirs.means[name]).sum() < 1e-3 * means.sum(), name


def test_each_expert_has_the_values_of_the_tokens_that_it_was_chosen_for(tmp_path: Path) -> None:
    model = write_layers(tmp_path / "experts.gguf", 2, 256, has_output=True, n_experts=8)
    texts = [[token] for token in range(20, 44)]
    found, expected = collect(model, texts, 1), LlamaForward(model)
    for tokens in texts:
        expected.read(tokens)
    name = "blk.0.ffn_down_exps.weight"
    assert found[name].squares.shape == (8, 256)
    assert list(found[name].counts) == list(expected.counts[name])
    assert found[name].counts.sum() == 2 * len(texts)
    assert len(set(found[name].counts)) > 1
    assert alike(found[name].squares, expected.squares[name])
    assert found["blk.1.attn_q.weight"].counts == len(texts)


def run(order: Order) -> tuple[list[dict[str, Any]], int]:
    done = subprocess.run(
        [sys.executable, "-m", "inference.gguf_tools.activations"], input=order.encoded(), capture_output=True, check=False
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_the_process_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """`run` closes its standard input at once, as a death does."""
    order = Order(str(FILE), str(tmp_path / "out.gguf"), [[1] * 500] * 2000, ["x"], [], 1)
    messages, status = run(order)
    assert status == 1
    assert len(messages) < 2000
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_llama_cpp_can_t_load_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(FILE.read_bytes().replace(b"blk.3.ffn_up", b"blk.9.ffn_up"))
    with pytest.raises(ActivationsError, match=r"can't load broken\.gguf"):
        collect(broken, TEXTS, 1)


def test_what_the_process_writes_is_an_importance_matrix(tmp_path: Path) -> None:
    order = Order(str(FILE), str(tmp_path / "out.gguf"), TEXTS, ["rooms"], ["abc"], 1)
    command = [sys.executable, "-m", "inference.gguf_tools.activations"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order.encoded())
        process.stdin.flush()
        assert [json.loads(line) for line in process.stdout] == [{"done": n} for n in (1, 2, 3)]
    found = read_importance(tmp_path / "out.gguf")
    assert (found.datasets, found.n_chunks, found.prompts) == (("rooms",), 3, ("abc",))
    assert len(found.means) == 42
