"""What a model's memory is made of, and whether the next one fits. The truths are what llama.cpp itself printed when it loaded
the sample model: `llama_kv_cache: size = 6.00 MiB (2048 cells, 6 layers, 1/1 seqs)` and so on."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.gguf_tools.metadata import read_metadata
from inference.sample_model.evaluate import FILE as SAMPLE
from monitoring.headroom import Fit, fit_of, need_of, room
from monitoring.kv_cache import BYTES, Cache, cache_of, kv_cache_bytes
from tests.product import BASE_DIR

MIB = 2**20
SAMPLE_INFO = dict(read_metadata(SAMPLE).keys)
LLAMA = {
    "general.architecture": "llama", "llama.block_count": 32, "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8, "llama.embedding_length": 4096, "llama.context_length": 131072,
}  # fmt: skip
# Loads the sample model as the engine's runner does, with llama.cpp's own words on, and stays until it is stopped: llama.cpp
# prints from a thread of its own.
LOAD = """
import json, os, sys
import xllamacpp
from inference.engine import runner
params = runner.make_params(json.loads(sys.argv[1]))
params.verbosity = 4
server = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.parametrize(
    ("context", "n_parallel", "kind"),
    [(2048, 1, "f16"), (1000, 2, "f16"), (300, 1, "q8_0"), (512, 3, "q4_0")],
)
def test_llama_cpp_itself_says_the_same_of_the_sample_model(context: int, n_parallel: int, kind: str) -> None:
    wanted = {
        "model": str(SAMPLE), "num_ctx": context, "n_parallel": n_parallel, "num_batch": 512, "threads": 1, "num_gpu": None,
        "main_gpu": None, "use_mmap": True, "kv_cache_type": kind, "flash_attention": None, "embedding": False, "shift": True,
    }  # fmt: skip
    command = [sys.executable, "-c", LOAD, json.dumps(wanted)]
    with subprocess.Popen(
        command,
        cwd=BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = next((each for each in process.stdout if "llama_kv_cache: size" in each), "")
        process.kill()
    said = float(line.partition("size =")[2].split()[0])
    found = kv_cache_bytes(SAMPLE_INFO, context, Cache(kind, kind, n_parallel))
    assert found is not None
    assert found / MIB == pytest.approx(said, abs=0.005)  # it prints two decimals


def test_a_common_model_takes_what_its_makers_say() -> None:
    assert kv_cache_bytes(LLAMA, 8192, Cache()) == 1024 * MIB
    told = {**LLAMA, "llama.attention.key_length": 64, "llama.attention.value_length": 64}
    assert kv_cache_bytes(told, 8192, Cache()) == 512 * MIB
    of_layers = {**LLAMA, "llama.attention.head_count_kv": [8, 0] * 16}
    assert kv_cache_bytes(of_layers, 8192, Cache()) == 512 * MIB


@given(st.integers(1, 200_000), st.integers(1, 16), st.sampled_from(sorted(BYTES)))
def test_a_cache_grows_with_context_and_slots_and_no_type_takes_more_than_f32(
    context: int, n: int, kind: str
) -> None:
    found = kv_cache_bytes(LLAMA, context, Cache(kind, kind, n))
    longer = kv_cache_bytes(LLAMA, context + 256, Cache(kind, kind, n))
    most = kv_cache_bytes(LLAMA, context, Cache("f32", "f32", n))
    alone = kv_cache_bytes(LLAMA, context, Cache("f32", "f32", 1))
    assert found is not None
    assert longer is not None
    assert most is not None
    assert alone is not None
    assert 0 < found < longer
    assert found <= most
    assert most == n * alone


@pytest.mark.parametrize(
    "more",
    [
        {"llama.attention.sliding_window": 4096},
        {"llama.attention.kv_lora_rank": 512},
        {"llama.ssm.state_size": 16},
        {"llama.attention.causal": False},
        {"llama.attention.head_count_kv": [8, 8]},
        {"llama.attention.head_count": None, "llama.attention.head_count_kv": None},
        {"llama.block_count": None},
        {"general.architecture": "other"},
    ],
)
def test_an_architecture_that_the_formula_does_not_hold_for_stays_unknown(more: dict[str, Any]) -> None:
    assert kv_cache_bytes({**LLAMA, **more}, 4096, Cache()) is None


@pytest.mark.parametrize(
    ("command", "environment", "cache"),
    [
        (["python", "-m", "r", json.dumps({"kv_cache_type": "q8_0", "n_parallel": 4})], None, Cache("q8_0", "q8_0", 4)),
        (["ollama", "runner", "--kv-cache-type", "q8_0", "--parallel", "2"], None, Cache("q8_0", "q8_0", 2)),
        (["llama-server", "--cache-type-k=q8_0", "-ctv", "f16", "-np", "1"], None, Cache("q8_0", "f16", 1)),
        (["ollama", "runner", "--model", "m"], None, None),
        (["ollama", "runner", "--model", "m"], {}, Cache("f16", "f16", 1)),
        (["ollama", "runner"], {"OLLAMA_NUM_PARALLEL": "3"}, Cache("f16", "f16", 3)),
        (["ollama", "runner"], {"OLLAMA_KV_CACHE_TYPE": "q8_0"}, None),  # Ollama may keep f16
        (
            ["ollama", "runner"],
            {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "1"},
            Cache("q8_0", "q8_0", 1),
        ),
        (["ollama", "runner"], {"OLLAMA_NUM_PARALLEL": "many"}, None),
        (["r", "--kv-cache-type", "q2_9", "--parallel", "1"], None, None),
        (["r", "--parallel"], {}, Cache()),
    ],
)  # fmt: skip
def test_the_process_says_what_its_cache_is_made_of(
    command: list[str], environment: dict[str, str] | None, cache: Cache | None
) -> None:
    assert cache_of(command, environment) == cache


bytes_ = st.integers(1, 2**40)


@given(bytes_, st.none() | bytes_, st.none() | bytes_)
def test_every_model_has_one_place_and_a_larger_one_no_better(
    need: int, vram: int | None, memory: int | None
) -> None:
    order = ["gpu", "split", "memory", "none", "unknown"]
    found, larger = fit_of(need, vram, memory), fit_of(2 * need, vram, memory)
    assert order.index(found.place) <= order.index(larger.place)
    assert (found.place == "none") == (found.short_bytes > 0)
    assert 0 <= found.gpu_share <= 1
    if found.place == "split":
        assert vram is not None
        assert memory is not None
        assert need - vram <= memory
    assert (found.place == "unknown") == (memory is None and (vram or 0) < need)


def test_what_a_model_needs_is_measured_else_computed_else_its_file() -> None:
    assert need_of(100, LLAMA, (900, 8192)) is not None
    measured = need_of(100, LLAMA, (900, 8192))
    assert measured is not None
    assert (measured.n_bytes, measured.basis, measured.context) == (900, "measured", 8192)
    computed = need_of(100, SAMPLE_INFO, None)
    assert computed is not None
    assert (computed.n_bytes, computed.context) == (100 + 512 * 6 * 2 * 128 * 2, 512)
    bare = need_of(100, {}, None)
    assert bare is not None
    assert (bare.n_bytes, bare.basis) == (100, "weights")
    assert need_of(0, LLAMA, None) is None


def test_the_room_of_a_sample_leaves_out_what_is_loaded_and_asks_every_card() -> None:
    model = {"basis": "measured", "context": None}
    state = {
        "engine": {"up": True, "kind": "ollama"},
        "models": [{"name": "a"}],
        "on_disk": [
            {**model, "name": name, "n_bytes": n} for name, n in (("a", 1), ("b", 30), ("c", 90), ("d", None))
        ],
    }
    values = {
        "memory_available_bytes": 40.0, "gpu_memory_total_bytes{gpu=0}": 40.0, "gpu_memory_used_bytes{gpu=0}": 30.0,
        "gpu_memory_total_bytes{gpu=1}": 40.0, "gpu_memory_used_bytes{gpu=1}": 20.0,
    }  # fmt: skip
    found = room(state, values)
    assert found is not None
    assert (found["free_vram_bytes"], found["free_memory_bytes"]) == (30, 40)
    assert [(each["name"], each["place"], each["short_bytes"]) for each in found["models"]] == [
        ("b", "gpu", 0), ("c", "none", 20), ("d", "unknown", 0),
    ]  # fmt: skip
    own = room({**state, "engine": {"up": True, "kind": "embedded"}}, values)  # it computes on the CPU
    assert own is not None
    assert [each["place"] for each in own["models"]] == ["memory", "none", "unknown"]
    unknown = room(state, {**values, "gpu_memory_used_bytes{gpu=1}": None})
    assert unknown is not None
    assert unknown["free_vram_bytes"] is None
    assert room({"engine": {"up": False}}, values) is None
    assert fit_of(5, 0, 5) == Fit("memory")
