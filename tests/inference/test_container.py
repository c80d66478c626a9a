"""Our reader and writer of GGUF headers beside the gguf package's, and before files that are none."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.gguf_tools.container import NotGgufError, read_header
from inference.gguf_tools.mixes import QuantizeError
from inference.gguf_tools.quantize import quantize_file
from inference.sample_model.evaluate import FILE as SAMPLE


def agrees_with_the_gguf_package(path: Path) -> None:
    header, reader = read_header(path, arrays=True), gguf.GGUFReader(path)
    assert header.keys == {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    assert [(each.name, each.type, each.shape, each.offset, each.n_bytes) for each in header.tensors] == [
        (each.name, each.tensor_type, tuple(each.shape), each.data_offset, each.n_bytes)
        for each in reader.tensors
    ]


def test_a_file_reads_as_the_gguf_package_reads_it(chain_models: dict[str, Path], tmp_path: Path) -> None:
    for each in (SAMPLE, *chain_models.values()):
        agrees_with_the_gguf_package(each)
    quantize_file(SAMPLE, tmp_path / "small.gguf", "q4_K_M")
    agrees_with_the_gguf_package(tmp_path / "small.gguf")


def test_arrays_are_read_only_when_asked_for() -> None:
    brief, whole = read_header(SAMPLE), read_header(SAMPLE, arrays=True)
    assert brief.keys["tokenizer.ggml.tokens"] is None
    assert "<|end|>" in whole.keys["tokenizer.ggml.tokens"]
    assert {name for name, value in brief.keys.items() if value is not None} == {
        name for name, value in whole.keys.items() if not isinstance(value, list)
    }


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("blk.0.ffn_up.weight", np.ones((2, 32), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_that_ends_early_is_told(small_file: Path, tmp_path: Path) -> None:
    content = small_file.read_bytes()
    end = max(each.offset + each.n_bytes for each in read_header(small_file).tensors)
    for length in range(end):
        (tmp_path / "short.gguf").write_bytes(content[:length])
        with pytest.raises(NotGgufError):
            read_header(tmp_path / "short.gguf")


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
@example([(8, b"\xff" * 8)])
@example([(16, b"\xff" * 8)])
@settings(deadline=None)
def test_a_damaged_header_is_read_or_told_and_nothing_else(
    small_file: Path, damage: list[tuple[int, bytes]]
) -> None:
    content = bytearray(small_file.read_bytes())
    for place, found in damage:
        content[place : place + len(found)] = found
    damaged, result = small_file.with_name("damaged.gguf"), small_file.with_name("result.gguf")
    damaged.write_bytes(content)
    try:
        read_header(damaged, arrays=True)
        quantize_file(damaged, result, "q8_0")
    except (NotGgufError, QuantizeError):
        assert not result.exists()
    assert not list(small_file.parent.glob("*.part"))
    result.unlink(missing_ok=True)
