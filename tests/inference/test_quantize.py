"""Our quantizer against what a real Ollama server made of the same file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from inference.gguf_tools.container import read_header
from inference.gguf_tools.mixes import FILE_TYPES, NEED_IMPORTANCE, QuantizeError, use_more_bits
from inference.gguf_tools.quantize import planned_bytes, planned_types, quantize_file, quantize_rows
from tests.inference.layered_model import write_layers

FOLDER = Path(__file__).with_name("quantization")
SOURCE = FOLDER / "tiny-ref-F16.gguf"


@pytest.mark.parametrize("to", ["q8_0", "q4_K_M"])
def test_every_tensor_is_byte_for_byte_ollama_s(to: str, tmp_path: Path) -> None:
    quantize_file(SOURCE, tmp_path / "out.gguf", to)
    expected = json.loads((FOLDER / f"tiny-ref.{to}.json").read_text())
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    found = {
        each.name: (each.tensor_type.name, hashlib.sha256(each.data.tobytes()).hexdigest())
        for each in reader.tensors
    }
    assert found == {each["name"]: (each["type"], each["sha256"]) for each in expected["tensors"]}
    assert reader.fields["general.file_type"].contents() == expected["file_type"]


LAYERS = {"16-layers": (16, 256, True), "5-layers-odd-ffn": (5, 288, False)}


@pytest.mark.parametrize("to", ["q8_0", "q4_K_S", "q4_K_M"])
@pytest.mark.parametrize("model", LAYERS)
def test_every_tensor_is_byte_for_byte_llama_cpp_s(model: str, to: str, tmp_path: Path) -> None:
    """layers.json holds what llama_model_quantize of llama.cpp v0.5.0 made of the same file: the tensors' types, and the
    SHA-256 of their SHA-256s in order of their names."""
    n_layers, ffn, has_output = LAYERS[model]
    source = write_layers(tmp_path / "source.gguf", n_layers, ffn, has_output=has_output)
    quantize_file(source, tmp_path / "out.gguf", to)
    expected = json.loads((FOLDER / "layers.json").read_text())[model][to]
    tensors = sorted(gguf.GGUFReader(tmp_path / "out.gguf").tensors, key=lambda each: each.name)
    others: dict[str, list[str]] = {}
    for each in tensors:
        if each.tensor_type.name not in {"F32", expected["most"]}:
            others.setdefault(each.tensor_type.name, []).append(each.name)
    assert others == expected["others"]
    sums = "".join(hashlib.sha256(each.data.tobytes()).hexdigest() for each in tensors)
    assert hashlib.sha256(sums.encode()).hexdigest() == expected["sha256"]


MODELS: dict[str, dict[str, Any]] = {
    "10 layers": {"n_layers": 10, "ffn": 256, "has_output": True},
    "9 layers, 4 heads share 1": {"n_layers": 9, "ffn": 256, "has_output": False, "n_kv": 1},
    "4 layers, 8 experts": {"n_layers": 4, "ffn": 256, "has_output": True, "n_experts": 8},
    "5 layers, rows of 288": {"n_layers": 5, "ffn": 288, "has_output": False},
}


@pytest.mark.parametrize("model", MODELS)
def test_every_type_is_byte_for_byte_llama_quantize_s(model: str, tmp_path: Path) -> None:
    """llama-quantize.json: for each type the SHA-256 over name, type and SHA-256 of each tensor that the tool of llama.cpp
    (of llama-cpp-python 0.3.36) made of the same file."""
    source = write_layers(tmp_path / "source.gguf", **MODELS[model])
    expected = json.loads((FOLDER / "llama-quantize.json").read_text())[model]
    slow = {"IQ3_M", "IQ3_S"}  # made of one model only
    assert set(expected) | slow == FILE_TYPES.keys() - {"F32", *NEED_IMPORTANCE}
    found = {}
    for to in expected:
        quantize_file(source, tmp_path / "out.gguf", to)
        tensors = sorted(gguf.GGUFReader(tmp_path / "out.gguf").tensors, key=lambda each: each.name)
        lines = [
            f"{each.name} {each.tensor_type.name} {hashlib.sha256(each.data.tobytes()).hexdigest()}\n"
            for each in tensors
        ]
        found[to] = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert found == expected


def test_types_of_single_tensors_can_be_chosen_and_the_size_is_known_before(tmp_path: Path) -> None:
    header = read_header(SOURCE)
    types = {"blk.0.ffn_down.weight": GGMLQuantizationType.Q8_0}
    quantize_file(SOURCE, tmp_path / "out.gguf", "q4_0", types=types)
    found = {each.name: each.tensor_type.name for each in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert found["blk.0.ffn_down.weight"] == "Q8_0"
    assert found["blk.0.ffn_up.weight"] == "Q4_0"
    planned = planned_bytes(header, planned_types(header, "q4_0", types))
    assert abs((tmp_path / "out.gguf").stat().st_size - planned) < 2000
    with pytest.raises(QuantizeError, match=r"no tensor blk\.9\.nothing"):
        quantize_file(
            SOURCE, tmp_path / "no.gguf", "q4_0", types={"blk.9.nothing": GGMLQuantizationType.Q8_0}
        )


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F32, GGMLQuantizationType.BF16])
def test_other_sources_are_quantized_from_their_own_values(
    kind: GGMLQuantizationType, tmp_path: Path
) -> None:
    values = np.random.default_rng(5).normal(size=(3, 256)).astype(np.float32)
    raw = gguf.quants.quantize(values, kind)
    writer = gguf.GGUFWriter(tmp_path / "in.gguf", "llama")
    writer.add_block_count(1)
    writer.add_tensor("blk.0.attn_q.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    quantize_file(tmp_path / "in.gguf", tmp_path / "out.gguf", "q8_0")
    (tensor,) = gguf.GGUFReader(tmp_path / "out.gguf").tensors
    expected = gguf.quants.quantize(gguf.quants.dequantize(raw, kind), GGMLQuantizationType.Q8_0)
    assert tensor.data.tobytes() == expected.tobytes()


def test_f16_of_an_f16_file_keeps_every_byte_of_every_tensor(tmp_path: Path) -> None:
    quantize_file(SOURCE, tmp_path / "out.gguf", "f16")
    before, after = gguf.GGUFReader(SOURCE), gguf.GGUFReader(tmp_path / "out.gguf")
    assert {t.name: t.data.tobytes() for t in before.tensors} == {
        t.name: t.data.tobytes() for t in after.tensors
    }


def test_the_kernel_agrees_with_the_gguf_package_where_both_exist() -> None:
    values = np.random.default_rng(3).normal(size=(8, 512)).astype(np.float32)
    for kind in (GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q5_1):
        assert np.array_equal(quantize_rows(values, kind), gguf.quants.quantize(values, kind))


def test_a_quantized_file_is_refused_as_a_source_and_nothing_is_left_behind(tmp_path: Path) -> None:
    quantize_file(SOURCE, tmp_path / "small.gguf", "q8_0")
    with pytest.raises(QuantizeError, match="only supported for F16"):
        quantize_file(tmp_path / "small.gguf", tmp_path / "out.gguf", "q4_K_M")
    with pytest.raises(QuantizeError, match="unsupported quantization type Q9"):
        quantize_file(SOURCE, tmp_path / "out.gguf", "q9")
    assert [each.name for each in tmp_path.iterdir()] == ["small.gguf"]


def test_more_bits_go_to_the_ends_and_to_every_third_layer_between() -> None:
    assert [layer for layer in range(16) if use_more_bits(layer, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]
