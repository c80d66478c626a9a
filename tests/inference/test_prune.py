"""Files that lose layers: against llama.cpp's own tool, and what is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.gguf_tools.container import Header, Tensor, read_header
from inference.gguf_tools.prune import PruneError, prune_file, pruned_bytes, remaining
from tests.inference.layered_model import write_layers
from tests.inference.test_quantize import MODELS

EXPECTED = json.loads(Path(__file__).with_name("quantization").joinpath("prune-layers.json").read_text())
SMALL = Path(__file__).with_name("quantization") / "tiny-ref-F16.gguf"


@pytest.mark.parametrize("model", EXPECTED)
def test_every_tensor_is_byte_for_byte_that_of_llama_quantize(model: str, tmp_path: Path) -> None:
    """prune-layers.json: of each list of layers the SHA-256 over name, type and SHA-256 of each tensor that `llama-quantize
    --prune-layers LIST ... F16` (llama.cpp v0.5.0) left of the same file."""
    source = write_layers(tmp_path / "source.gguf", **MODELS[model])
    found = {}
    for dropped in EXPECTED[model]:
        prune_file(source, tmp_path / "out.gguf", [int(each) for each in dropped.split(",")])
        tensors = sorted(gguf.GGUFReader(tmp_path / "out.gguf").tensors, key=lambda each: each.name)
        lines = [
            f"{each.name} {each.tensor_type.name} {hashlib.sha256(each.data.tobytes()).hexdigest()}\n"
            for each in tensors
        ]
        found[dropped] = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert found == EXPECTED[model]


def test_all_keys_but_the_number_of_layers_stay_byte_for_byte(tmp_path: Path) -> None:
    made = tmp_path / "out.gguf"
    told: list[tuple[int, int]] = []
    prune_file(SMALL, made, [1], lambda done, total: told.append((done, total)))
    before, after = read_header(SMALL), read_header(made)
    n_before = before.keys["llama.block_count"]
    assert after.keys["llama.block_count"] == n_before - 1
    assert list(before.spans) == list(after.spans)
    raw = {file: file.read_bytes() for file in (SMALL, made)}
    for name, span in before.spans.items():
        if name != "llama.block_count":
            assert raw[SMALL][slice(*span)] == raw[made][slice(*after.spans[name])]
    assert abs(made.stat().st_size - pruned_bytes(before, [1])) < 2000
    assert told[-1][0] == told[-1][1] == sum(each.n_bytes for each in after.tensors)
    assert [each.name for each in tmp_path.iterdir()] == ["out.gguf"]


@st.composite
def layers_and_dropped(draw: st.DrawFn) -> tuple[int, set[int]]:
    n = draw(st.integers(2, 200))
    return n, draw(st.sets(st.integers(0, n - 1), max_size=n - 1))


def _header(n: int, keys: dict[str, Any] | None = None) -> Header:
    kind = gguf.GGMLQuantizationType.F32
    names = ["token_embd.weight", "v.blk.0.ln.weight"]
    names += [f"blk.{layer}.{part}.weight" for layer in range(n) for part in ("attn_q", "ffn_up")]
    tensors = tuple(Tensor(name, kind, (1,), place) for place, name in enumerate(names))
    known = {"general.architecture": "llama", "llama.block_count": n, **(keys or {})}
    return Header(known, {}, tensors, 32)


@given(layers_and_dropped())
@settings(deadline=None)
def test_what_stays_keeps_its_order_and_has_numbers_without_a_gap(given: tuple[int, set[int]]) -> None:
    n, dropped = given
    found = remaining(_header(n), dropped)
    stay = [layer for layer in range(n) if layer not in dropped]
    assert [name for name, _ in found] == [
        "token_embd.weight",
        "v.blk.0.ln.weight",  # of a picture's encoder: other layers
        *(f"blk.{new}.{part}.weight" for new in range(len(stay)) for part in ("attn_q", "ffn_up")),
    ]
    # Each new number has the tensors of the layer that stands there now, and no tensor moves against another.
    origins = [tensor.name for _, tensor in found if tensor.name.startswith("blk.")]
    assert origins == [f"blk.{layer}.{part}.weight" for layer in stay for part in ("attn_q", "ffn_up")]
    assert [tensor.offset for _, tensor in found] == sorted(tensor.offset for _, tensor in found)


def _with_arrays(path: Path, arrays: dict[str, list[Any]]) -> Path:
    """4 layers of one tensor each."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(4)
    for name, values in arrays.items():
        writer.add_array(name, values)
    writer.add_array("general.tags", ["a", "b", "c", "d"])
    for layer in range(4):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.full((2, 32), layer, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_lists_with_a_value_per_layer_lose_the_same_layers(tmp_path: Path) -> None:
    source = _with_arrays(
        tmp_path / "in.gguf",
        {
            "llama.attention.head_count_kv": [8, 4, 2, 1],
            "llama.attention.sliding_window_pattern": [True, True, True, False],
            "llama.activation_sparsity_scale": [0.5, 1.5, 2.5, 3.5],
            "llama.rope.dimension_sections": [16, 24, 24, 0],
        },
    )
    prune_file(source, tmp_path / "out.gguf", [0, 2])
    keys = read_header(tmp_path / "out.gguf", arrays=True).keys
    assert keys["llama.attention.head_count_kv"] == [4, 1]
    assert keys["llama.attention.sliding_window_pattern"] == [True, False]
    assert keys["llama.activation_sparsity_scale"] == [1.5, 3.5]
    assert keys["llama.rope.dimension_sections"] == [16, 24, 24, 0]
    assert keys["general.tags"] == ["a", "b", "c", "d"]
    first, second = gguf.GGUFReader(tmp_path / "out.gguf").tensors
    assert (first.data[0, 0], second.data[0, 0]) == (1, 3)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"llama.some_layers": [0, 3]}, "whether they belong to layers is not known"),
        ({"llama.feed_forward_length": [1, 2, 3]}, "has 3 values, where 4 layers need a number each"),
        ({"llama.feed_forward_length": ["1", "2", "3", "4"]}, "where 4 layers need a number each"),
    ],
)
def test_a_list_of_unknown_meaning_is_refused_and_nothing_is_left(
    arrays: dict[str, list[Any]], text: str, tmp_path: Path
) -> None:
    source = _with_arrays(tmp_path / "in.gguf", arrays)
    with pytest.raises(PruneError, match=text):
        prune_file(source, tmp_path / "out.gguf", [1])
    assert [each.name for each in tmp_path.iterdir()] == ["in.gguf"]


@pytest.mark.parametrize(
    ("dropped", "keys", "text"),
    [
        ({0, 1, 2, 3}, {}, "at least one of the 4 layers has to stay"),
        ({4}, {}, "has no layer 4: its layers are 0 to 3"),
        ({-1, 2}, {}, "has no layer -1"),
        ({1}, {"llama.block_count": 5}, "its tensors are not those of as many"),
        ({1}, {"llama.block_count": None}, "does not say how many layers"),
        ({1}, {"llama.leading_dense_block_count": 1}, "= 1 makes the kind of a layer depend on its place"),
        ({1}, {"llama.full_attention_interval": 4}, "= 4 makes the kind of a layer depend on its place"),
    ],
)
def test_what_can_not_be_dropped_is_refused_with_a_sentence(
    dropped: set[int], keys: dict[str, Any], text: str
) -> None:
    with pytest.raises(PruneError, match=text):
        remaining(_header(4, keys), dropped)


def test_a_model_whose_layers_are_all_alike_by_its_numbers_is_taken() -> None:
    alike = {"llama.leading_dense_block_count": 0, "llama.full_attention_interval": 1}
    assert len(remaining(_header(4, alike), [1])) == 2 + 3 * 2
