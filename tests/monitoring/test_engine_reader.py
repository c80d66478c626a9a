"""What is known of loaded models beyond `/api/ps`: by a real engine with the sample model, and its process."""

import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from aicleaner_site.valkey import ValkeyServer
from inference.sample_model.evaluate import FILE as SAMPLE
from monitoring.notable import changes
from monitoring.readers.base import Reading, Roots
from monitoring.readers.engine import Engine, seconds_until
from monitoring.readers.gateway import KEY
from monitoring.readers.runners import Runners
from tests.inference.old_ollama import old_ollama
from tests.inference.serving import Server
from tests.product import wait_for


def post(server: Server, path: str, body: dict[str, Any]) -> None:
    with urllib.request.urlopen(f"{server.url}{path}", json.dumps(body).encode(), timeout=60) as answer:
        answer.read()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    with Server(
        *("inference.engine", "--models", str(models), "--seed-model", f"sample={SAMPLE}"),
        *("--max-loaded", "1"),
    ) as server:
        post(server, "/api/create", {"model": "other", "from": "sample", "quantize": "q8_0", "stream": False})
        yield server


@pytest.fixture
def reader(engine: Server, valkey_url: str) -> Iterator[Engine]:
    with redis.from_url(valkey_url) as valkey:
        valkey.set(KEY, json.dumps({"engine": {"url": engine.url, "kind": "embedded"}}))
        found = Engine(Roots(valkey_url=valkey_url))
        yield found
        found.close()
        valkey.delete(KEY)


def load(engine: Server, model: str, **more: Any) -> None:
    post(engine, "/api/generate", {"model": model, "prompt": "Room: kitchen.", "stream": False, **more})


def models_of(reading: Reading) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in reading.state["models"]}


def test_a_model_is_joined_to_its_process(engine: Server, reader: Engine) -> None:
    load(engine, "sample")

    def joined() -> Reading | None:
        reading = reader.read(time.monotonic())
        return reading if models_of(reading).get("sample:latest", {}).get("pid") else None

    reading = wait_for(joined, "the model's process is found")
    model = models_of(reading)["sample:latest"]
    process = psutil.Process(model["pid"])
    assert engine.process.pid in {each.pid for each in process.parents()}
    assert abs(model["process_memory_bytes"] - process.memory_info().rss) < 2**27
    assert model["weights_bytes"] == SAMPLE.stat().st_size
    assert model["weights_bytes"] < model["size_bytes"]
    # 512 cells (it was trained for no more), 6 layers, 2 heads of 64, keys and values in two bytes
    assert model["kv_cache_bytes"] == 512 * 6 * 2 * 128 * 2
    assert model["buffers_bytes"] == model["size_bytes"] - model["weights_bytes"] - model["kv_cache_bytes"]
    assert reading.values["model_kv_cache_bytes{model=sample:latest}"] == model["kv_cache_bytes"]
    assert reading.values["model_context_tokens{model=sample:latest}"] == 512
    needs = {each["name"]: each for each in reading.state["on_disk"]}
    assert needs["sample:latest"]["basis"] == "measured"
    assert needs["sample:latest"]["n_bytes"] == model["size_bytes"]

    def both_shown() -> dict[str, Any] | None:
        found = {each["name"]: each for each in reader.read(time.monotonic()).state["on_disk"]}
        return found if found["other:latest"]["basis"] == "computed" else None

    other = wait_for(both_shown, "the other's architecture is known")["other:latest"]
    assert other["n_bytes"] > model["kv_cache_bytes"]
    assert 0 < model["leaves_in_s"] <= 300
    assert reading.values["model_process_memory_bytes{model=sample:latest}"] == model["process_memory_bytes"]
    assert reading.values["model_cpu_share_percent{model=sample:latest}"] == 100
    process.kill()  # the next look finds no process, or another one
    wait_for(
        lambda: models_of(reader.read(time.monotonic())).get("sample:latest", {}).get("pid") != model["pid"],
        "the dead process is forgotten",
    )


def test_a_model_that_had_to_leave_for_another_is_told(engine: Server, reader: Engine) -> None:
    def with_model(name: str) -> Reading | None:
        reading = reader.read(time.monotonic())
        return reading if name in models_of(reading) else None

    load(engine, "sample")
    before = wait_for(lambda: with_model("sample:latest"), "the first is seen")
    load(engine, "other")
    after = wait_for(lambda: with_model("other:latest"), "so is the other")
    (text,) = [text for _, text in changes(before.state, after.state) if "other" in text]
    assert text.startswith("other:latest loaded in the place of sample:latest, evicted ")
    assert text.endswith(" s after its own load")


@pytest.mark.parametrize(
    ("left", "text"),
    [
        ([], "b loaded"),
        ([{"name": "b", "loaded_s": 3.0}], "b loaded"),  # it was only reloaded
        ([{"name": "a", "loaded_s": 900.0}], "b loaded in the place of a, evicted"),
        ([{"name": "a", "loaded_s": 3.0}], "b loaded in the place of a, evicted 3 s after its own load"),
    ],
)
def test_thrash_is_a_model_evicted_soon_after_its_load(left: list[dict[str, Any]], text: str) -> None:
    up = {"engine": {"up": True, "url": "u"}, "models": []}
    assert changes(up, {**up, "models": [{"name": "b"}], "left_early": left}) == [("model", text)]


def test_a_runner_is_looked_for_by_the_name_of_the_file(tmp_path: Path) -> None:
    runners = Runners(Roots(proc=tmp_path))
    assert runners.find("sha256-ab", 0.0) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_bytes(b"ollama\0runner\0--model\0/models/blobs/sha256-ab\0")
    (tmp_path / "7" / "statm").write_text("900 25 1 1 0 1 0\n")
    assert runners.find("sha256-ab", 1.0) is None  # too soon to look again
    assert runners.find("sha256-ab", 5.0) == 7
    assert runners.memory_bytes(7) == 25 * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "cmdline").write_bytes(b"runner\0--model\0/other/blobs/sha256-ab\0")
    assert runners.find("/other/blobs/sha256-ab", 10.0) == 8  # another engine runs the same blob
    assert runners.find("/models/blobs/sha256-ab", 15.0) == 7
    assert runners.find("/root/.ollama/blobs/sha256-ab", 20.0) is None  # one of the two, nobody knows which
    (tmp_path / "7" / "cmdline").write_bytes(b"something else\0")
    assert runners.find("/models/blobs/sha256-ab", 21.0) is None
    assert (
        runners.find("/root/.ollama/blobs/sha256-ab", 25.0) == 8
    )  # a container's own folder, but the only one
    assert runners.memory_bytes(8) is None


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2026-01-01T00:00:10Z", 10.0),
        ("2026-01-01T01:00:10.123456789+01:00", 10.123456),
        (None, None),
        ("soon", None),
    ],
)
def test_the_end_of_a_keep_alive(moment: Any, seconds: float | None) -> None:
    found = seconds_until(moment, 1767225600.0)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-3))


def test_models_of_other_engines_are_told_as_the_gateway_knows_them(engine: Server) -> None:
    """The gateway prefers another engine, so this one is not in use."""
    load(engine, "sample")
    folder = Path(tempfile.mkdtemp(prefix="aic-v-"))
    with old_ollama("broom") as shed, ValkeyServer(folder / "v.sock") as valkey:
        arguments = ("--valkey", valkey.url, "--engine", f"ollama={shed.url}")
        with Server("inference.gateway", *arguments, "--engine", f"embedded={engine.url}"):
            reader = Engine(Roots(valkey_url=valkey.url))
            try:
                state = wait_for(
                    lambda: (told := reader.read(time.monotonic()).state).get("elsewhere") and told,
                    "the gateway has looked",
                )
            finally:
                reader.close()
    assert (state["engine"]["kind"], state["models"]) == ("ollama", [])
    (found,) = state["elsewhere"]
    assert (found["engine"], found["name"], found["gpu_share"]) == ("embedded", "sample:latest", 0)
    assert found["size_bytes"] > SAMPLE.stat().st_size / 2
    assert found["expires_at"]
