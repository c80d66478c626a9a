"""Importance matrices as files, and what our writer makes with them, against llama.cpp's own tool."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from inference.gguf_tools.container import Header, encoded, pad, read_header, write_header
from inference.gguf_tools.importance import (
    Importance,
    ImportanceError,
    Sums,
    read_importance,
    write_importance,
)
from inference.gguf_tools.mixes import FILE_TYPES, NEED_IMPORTANCE, UNWEIGHED, QuantizeError, is_quantized
from inference.gguf_tools.quantize import planned_types, quantize_file
from inference.sample_model.evaluate import FILE
from tests.inference.layered_model import write_layers
from tests.inference.test_quantize import FOLDER, MODELS


def random_sums(header: Header) -> dict[str, Sums]:
    """As if a model had read; the last expert of each layer saw nothing."""
    random = np.random.default_rng(20260202)
    found = {}
    for tensor in header.tensors:
        if tensor.name.startswith("blk.") and is_quantized(tensor.name, tensor.shape):
            n_matrices = tensor.n_elements // tensor.shape[0] // tensor.shape[1]
            counts = random.integers(1, 60, n_matrices).astype(float)
            squares = random.lognormal(0, 2, (n_matrices, tensor.shape[0]))
            if n_matrices > 1:
                counts[-1], squares[-1] = 0, 0
            found[tensor.name] = Sums(squares, counts)
    return found


def weigh(model: Path, out: Path) -> Importance:
    write_importance(out, random_sums(read_header(model)), ["rooms.txt"], 7, 512)
    return read_importance(out)


def test_what_is_written_is_read_again_and_is_of_llama_cpp_s_format(tmp_path: Path) -> None:
    sums, path = random_sums(read_header(FILE)), tmp_path / "sample.gguf"
    write_importance(path, sums, ["rooms", "halls"], 12, 512, ["0f", "1e"])
    found = read_importance(path)
    assert (found.file, found.datasets, found.n_chunks) == ("sample.gguf", ("rooms", "halls"), 12)
    assert found.prompts == ("0f", "1e")
    assert found.means.keys() == sums.keys()
    for name, (squares, counts) in sums.items():
        np.testing.assert_allclose(
            found.means[name].reshape(squares.shape), squares / counts[:, None], rtol=1e-6
        )
    reader = gguf.GGUFReader(path)
    told = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert told == {
        "general.type": "imatrix",
        "imatrix.datasets": ["rooms", "halls"],
        "imatrix.chunk_count": 12,
        "imatrix.chunk_size": 512,
        "imatrix.aicleaner.prompts": ["0f", "1e"],
    }
    shapes = {each.name: [int(n) for n in each.shape] for each in reader.tensors}
    assert shapes["blk.0.ffn_down.weight.in_sum2"] == [512, 1]
    assert shapes["blk.0.ffn_down.weight.counts"] == [1, 1]
    assert [each.name for each in tmp_path.iterdir()] == ["sample.gguf"]


def test_an_expert_that_saw_nothing_weighs_its_columns_alike(tmp_path: Path) -> None:
    model = write_layers(tmp_path / "experts.gguf", 1, 256, has_output=True, n_experts=3)
    found = weigh(model, tmp_path / "matrix.gguf")
    tensor = next(each for each in read_header(model).tensors if each.name == "blk.0.ffn_up_exps.weight")
    rows = found.of(tensor)
    assert rows is not None
    assert rows.shape == (3, 256)
    assert (rows[2] == 1).all()
    assert (rows[:2] != 1).all()


def old_file(*, dataset: str | None = "rooms.txt") -> bytes:
    name = b"blk.0.attn_q.weight"
    values = np.arange(256, dtype="<f4")
    raw = struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 4, 256) + values.tobytes()
    if dataset is not None:
        raw += struct.pack("<ii", 9, len(dataset)) + dataset.encode()
    return raw


def test_the_older_format_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    for dataset, expected in (("rooms.txt", (("rooms.txt",), 9)), (None, ((), 0))):
        path.write_bytes(old_file(dataset=dataset))
        found = read_importance(path)
        assert (found.datasets, found.n_chunks) == expected
        np.testing.assert_array_equal(found.means["blk.0.attn_q.weight"], np.arange(256) / 4)
        found.check(read_header(FILE))


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    sums = {"blk.0.attn_q.weight": Sums(np.ones((1, 256)), np.ones(1))}
    write_importance(path, sums, ["rooms"], 1, 512)
    whole = path.read_bytes()
    end = max(each.offset + each.n_bytes for each in read_header(path).tensors)  # what follows only fills up
    for raw, least in ((whole, end), (old_file(dataset=None), len(old_file(dataset=None)))):
        for length in range(0, least, 7):
            path.write_bytes(raw[:length])
            with pytest.raises(ImportanceError, match=r"cut\.gguf is (no importance matrix|damaged)"):
                read_importance(path)
    with pytest.raises(ImportanceError, match=r"none\.gguf can't be read: No such file"):
        read_importance(tmp_path / "none.gguf")


def test_other_files_are_refused_with_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    with pytest.raises(
        ImportanceError, match=r"a GGUF file, but no importance matrix \(its type is not told\)"
    ):
        read_importance(FILE)
    path.write_text("Room: kitchen. Seen: crumbs on the floor.")
    with pytest.raises(ImportanceError, match="it does not begin as one"):
        read_importance(path)
    for bad in (np.nan, np.inf, -1.0):
        write_importance(path, {"blk.0.attn_q.weight": Sums(np.full((1, 256), bad), np.ones(1))}, [], 1, 512)
        with pytest.raises(
            ImportanceError, match=r"blk\.0\.attn_q\.weight has values that no mean of squares has"
        ):
            read_importance(path)
    with path.open("wb") as out:  # sums without counts
        tensors = [("blk.0.attn_q.weight.in_sum2", Type.F32, (256, 1))]
        write_header(out, [encoded("general.type", "imatrix")], tensors, 32)
        out.write(bytes(1024))
        pad(out, 32)
    with pytest.raises(ImportanceError, match="lacks its sums or its counts"):
        read_importance(path)


@pytest.mark.parametrize(
    ("name", "columns", "what"),
    [
        ("blk.6.attn_q.weight", 256, r"it has blk\.6\.attn_q\.weight, and this model does not"),
        ("blk.0.attn_q.weight", 512, r"blk\.0\.attn_q\.weight has 512 columns there, and 256 in this model"),
    ],
)
def test_the_matrix_of_another_model_is_refused(name: str, columns: int, what: str, tmp_path: Path) -> None:
    write_importance(tmp_path / "m.gguf", {name: Sums(np.ones((1, columns)), np.ones(1))}, [], 1, 512)
    importance = read_importance(tmp_path / "m.gguf")
    with pytest.raises(ImportanceError, match=f"another model: {what}"):
        quantize_file(FILE, tmp_path / "out.gguf", "q4_K_M", importance=importance)
    assert [each.name for each in tmp_path.iterdir()] == ["m.gguf"]


def test_types_of_few_bits_need_it_for_each_tensor(tmp_path: Path) -> None:
    header, importance = read_header(FILE), weigh(FILE, tmp_path / "m.gguf")
    for level in NEED_IMPORTANCE:
        with pytest.raises(QuantizeError, match=f"{level} needs an importance matrix"):
            planned_types(header, level)
        planned_types(header, level, importance=importance)
    less = dict(importance.means)
    del less["blk.4.ffn_up.weight"]
    partly = Importance("m.gguf", less, (), 1)
    planned_types(header, "q4_K_M", importance=partly)
    with pytest.raises(QuantizeError, match=r"nothing of blk\.4\.ffn_up\.weight, which can't be IQ2_XXS"):
        planned_types(header, "iq2_xxs", importance=partly)


# A small one, for some kernels search long (those that take seconds are left out); its experts matter differently.
SMALL: dict[str, dict[str, Any]] = {
    "1 layer, 2 experts": {"n_layers": 1, "ffn": 256, "has_output": False, "n_experts": 2}
}
ODD = {"5 layers, rows of 288": MODELS["5 layers, rows of 288"]}


@pytest.mark.parametrize("model", SMALL | ODD)
def test_every_type_with_importance_is_byte_for_byte_llama_quantize_s(model: str, tmp_path: Path) -> None:
    """llama-quantize-imatrix.json: as llama-quantize.json, made by the same tool with `--imatrix` and the file that `weigh`
    writes."""
    source = write_layers(tmp_path / "source.gguf", **(SMALL | ODD)[model])
    importance = weigh(source, tmp_path / "matrix.gguf")
    expected: dict[str, Any] = json.loads((FOLDER / "llama-quantize-imatrix.json").read_text())
    slow = {"IQ3_XXS", "IQ2_M", "IQ2_S", "IQ1_M", "IQ1_S"}
    assert expected["1 layer, 2 experts"].keys() == FILE_TYPES.keys() - {*UNWEIGHED, *slow}
    found = {}
    for to in expected[model]:
        quantize_file(source, tmp_path / "out.gguf", to, importance=importance)
        found[to] = digest(tmp_path / "out.gguf")
    assert found == expected[model]


@pytest.mark.parametrize("model", MODELS)
def test_every_mix_with_importance_is_llama_quantize_s(model: str, tmp_path: Path) -> None:
    """Of all types, since planning takes no time. The digest is over name and type of each tensor."""
    source = write_layers(tmp_path / "source.gguf", **MODELS[model])
    header, importance = read_header(source), weigh(source, tmp_path / "matrix.gguf")
    expected = json.loads((FOLDER / "llama-quantize-imatrix-types.json").read_text())[model]
    assert expected.keys() == FILE_TYPES.keys() - set(UNWEIGHED)
    for to, digest_of_types in expected.items():
        planned = planned_types(header, to, importance=importance)
        assert types_digest({name: kind.name for name, kind in planned.items()}) == digest_of_types, to


def digest(path: Path) -> str:
    tensors = sorted(gguf.GGUFReader(path).tensors, key=lambda each: each.name)
    lines = [
        f"{each.name} {each.tensor_type.name} {hashlib.sha256(each.data.tobytes()).hexdigest()}\n"
        for each in tensors
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def types_digest(types: dict[str, str]) -> str:
    lines = [f"{name} {kind}\n" for name, kind in sorted(types.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def test_the_file_says_what_it_was_weighed_with(tmp_path: Path) -> None:
    importance = weigh(FILE, tmp_path / "m.gguf")
    quantize_file(FILE, tmp_path / "out.gguf", "q4_0", importance=importance)
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert {name: field.contents() for name, field in fields.items() if name.startswith("quantize.")} == {
        "quantize.imatrix.file": "m.gguf",
        "quantize.imatrix.dataset": "rooms.txt",
        "quantize.imatrix.entries_count": 42,
        "quantize.imatrix.chunks_count": 7,
    }
    quantize_file(FILE, tmp_path / "plain.gguf", "q4_0")
    assert digest(tmp_path / "plain.gguf") != digest(tmp_path / "out.gguf")
    # Made again without, it does not keep the words of the first time.
    quantize_file(FILE, tmp_path / "f16.gguf", "f16", importance=importance)
    quantize_file(tmp_path / "f16.gguf", tmp_path / "again.gguf", "q4_0")
    assert digest(tmp_path / "again.gguf") == digest(tmp_path / "plain.gguf")
    assert not any(name.startswith("quantize.") for name in gguf.GGUFReader(tmp_path / "again.gguf").fields)
