"""Our quantizer against what a real Ollama server made of the same file."""

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from inference.gguf_tools.quantize import QuantizeError, quantize_file, quantize_rows, use_more_bits

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
    with pytest.raises(QuantizeError, match="unsupported quantization type Q5_K_M"):
        quantize_file(SOURCE, tmp_path / "out.gguf", "q5_K_M")
    assert [each.name for each in tmp_path.iterdir()] == ["small.gguf"]


def test_more_bits_go_to_the_ends_and_to_every_third_layer_between() -> None:
    assert [layer for layer in range(16) if use_more_bits(layer, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]
