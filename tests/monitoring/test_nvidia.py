"""The NVIDIA reader on recorded NVML readings (recorded/nvml/README.md says whose)."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.readers import nvidia, nvml
from monitoring.readers.base import Roots
from monitoring.readers.nvidia import Driver, Nvidia
from tests.monitoring.replay import RECORDINGS, Replay
from tests.product import wait_for

MIB = 2**20


def driver(tmp_path: Path, replay: Any) -> Driver:
    return Driver(Roots(proc=tmp_path / "proc", sys=tmp_path / "sys"), replay)


def gpu_of(reading: Any) -> dict[str, Any]:
    (gpu,) = reading.state["gpus:nvidia"]["gpus"]
    return dict(gpu)


def values_of(reading: Any) -> dict[str, float | None]:
    return {name.removeprefix("gpu_").partition("{")[0]: value for name, value in reading.values.items()}


def add_card(tmp_path: Path, address: str = "0000:01:00.0", status: str = "active") -> Path:
    device = tmp_path / "sys/bus/pci/devices" / address
    (device / "power").mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030000\n")
    (device / "power/runtime_status").write_text(f"{status}\n")
    return device


def test_a_card_at_work_gives_every_row_of_the_table(tmp_path: Path) -> None:
    replay = Replay("rtx-3080")
    asked = driver(tmp_path, replay)
    asked.read(100.0)
    replay.fields["NVML_FI_DEV_PCIE_COUNT_RX_BYTES"] += 14_742_333_000
    replay.fields["NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP"] += 250_000_000
    reading = asked.read(101.0)
    values = values_of(reading)
    assert {name: value for name, value in values.items() if value is not None} == {
        "util_percent": 65,
        "memory_busy_percent": 9,
        "memory_total_bytes": 10240 * MIB,
        "memory_used_bytes": 9184 * MIB,
        "memory_reserved_bytes": 397 * MIB,
        "power_w": pytest.approx(139.62),
        "power_instant_w": pytest.approx(142.33),
        "power_limit_w": 320,
        "energy_j": 5000,
        "temperature_celsius": 27,
        "clock_mhz": 1950,
        "memory_clock_mhz": 9251,
        "performance_state": 2,
        "fan_percent": 0,
        "throttle_bits": 0,
        "pcie_generation": 4,
        "pcie_width": 16,
        "pcie_receive_bytes_per_s": 14_742_333_000,
        "pcie_transmit_bytes_per_s": 0,
        "held_power_cap_percent": pytest.approx(25),
        "held_sync_boost_percent": 0,
        "held_software_thermal_percent": 0,
        "held_hardware_thermal_percent": 0,
        "held_power_brake_percent": 0,
        "held_hardware_slowdown_percent": 0,
    }
    gpu = gpu_of(reading)
    assert (gpu["name"], gpu["driver"]) == ("NVIDIA GeForce RTX 3080", "595.58.03")
    assert gpu["throttle"] == []
    assert gpu["missing"]["memory_temperature_celsius"] == "not supported by this card"
    assert gpu["missing"]["ecc_corrected_total"] == "not supported by this card"


def test_a_card_split_by_mig_says_what_it_can_not_tell(tmp_path: Path) -> None:
    reading = driver(tmp_path, Replay("a100-mig")).read(100.0)
    values, gpu = values_of(reading), gpu_of(reading)
    assert values["util_percent"] is values["fan_percent"] is values["remapped_corrected"] is None
    assert values["memory_temperature_celsius"] == 44
    assert values["ecc_corrected_total"] == values["ecc_uncorrected_total"] == 0
    assert {"util_percent", "fan_percent", "remapped rows"} <= set(gpu["missing"])
    assert gpu["missing"]["held_software_thermal_percent"] == "not known to this driver"
    assert gpu["processes"] == [{"pid": 4711, "name": None, "memory_bytes": None, "util_percent": None}]


def test_rows_that_a_card_remapped_and_its_processes_are_read(tmp_path: Path) -> None:
    (tmp_path / "proc/4711").mkdir(parents=True)
    (tmp_path / "proc/4711/comm").write_text("llama-server\n")
    samples = [SimpleNamespace(pid=4711, timeStamp=at, smUtil=util) for at, util in ((20, 61), (10, 5))]
    replay = Replay("rtx-pro-6000", nvmlDeviceGetRemappedRows=[3, 1, 1, 0])
    replay.calls["nvmlDeviceGetProcessUtilization"] = samples
    reading = driver(tmp_path, replay).read(100.0)
    values = values_of(reading)
    found = [values[name] for name in nvml.REMAPPED]
    assert found == [3, 1, 1, 0]
    (process,) = gpu_of(reading)["processes"]
    assert process == {
        "pid": 4711,
        "name": "llama-server",
        "memory_bytes": 65000 * MIB,
        "util_percent": 61,  # the newest sample
    }


@pytest.mark.parametrize("recording", RECORDINGS)
def test_every_recording_is_read_again_and_again_without_an_error(tmp_path: Path, recording: str) -> None:
    asked = driver(tmp_path, Replay(recording))
    for second in range(130):
        reading = asked.read(100.0 + second)
        assert gpu_of(reading)["name"]
        assert all(value is None or value >= 0 for value in reading.values.values())


def test_what_is_not_supported_is_asked_once_and_again_after_the_driver_is_loaded_anew(
    tmp_path: Path,
) -> None:
    module = tmp_path / "sys/module/nvidia"
    module.mkdir(parents=True)
    replay = Replay("a100-mig")
    asked = driver(tmp_path, replay)
    for second in range(10):
        asked.read(100.0 + second)
    assert replay.asked.count("nvmlDeviceGetFanSpeed_v2") == 1
    unsupported = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN
    assert unsupported in replay.fields_asked[0]
    assert unsupported not in replay.fields_asked[1]
    assert pynvml.NVML_FI_DEV_MEMORY_TEMP in replay.fields_asked[-1]
    module.rename(tmp_path / "old")  # the module's folder is another one after a reload
    module.mkdir()
    replay.calls["nvmlDeviceGetFanSpeed_v2"] = 55
    assert values_of(asked.read(110.0))["fan_percent"] == 55
    assert replay.n_init == 2


def test_tiers_are_a_second_five_and_a_minute(tmp_path: Path) -> None:
    replay = Replay("rtx-3080")
    asked = driver(tmp_path, replay)
    for second in range(61):
        asked.read(100.0 + second)
    counts = {name: replay.asked.count(name) for name in set(replay.asked)}
    assert counts["nvmlDeviceGetPowerUsage"] == 61
    assert counts["nvmlDeviceGetComputeRunningProcesses"] == 13
    assert counts["nvmlDeviceGetEnforcedPowerLimit"] == 2
    assert len(replay.fields_asked) == 61


def test_the_table_asks_for_what_the_real_pynvml_has() -> None:
    for call in nvml.EACH_SECOND + nvml.EACH_MINUTE:
        assert hasattr(pynvml, call.function), call
        assert all(hasattr(pynvml, each) for each in call.arguments if isinstance(each, str)), call
    assert all(hasattr(pynvml, constant) for constant, _ in nvml.FIELDS.values())


def test_an_older_driver_is_asked_by_the_older_names(tmp_path: Path) -> None:
    replay = Replay("rtx-3080", nvmlDeviceGetCurrentClocksEventReasons="FUNCTION_NOT_FOUND")
    replay.calls["nvmlDeviceGetMemoryInfo nvmlMemory_v2"] = "FUNCTION_NOT_FOUND"
    replay.calls["nvmlDeviceGetMemoryInfo"] = {"total": 8 * MIB, "used": 2 * MIB, "free": 6 * MIB}
    replay.calls["nvmlDeviceGetCurrentClocksThrottleReasons"] = 0x8 | 0x1
    reading = driver(tmp_path, replay).read(100.0)
    values = values_of(reading)
    assert (values["memory_used_bytes"], values["memory_reserved_bytes"]) == (2 * MIB, None)
    assert gpu_of(reading)["throttle"] == ["hardware slowdown"]
    assert gpu_of(reading)["idle"] is True


def test_a_card_without_counters_of_time_is_held_back_for_the_seconds_in_which_its_bit_is_seen(
    tmp_path: Path,
) -> None:
    replay = Replay("a100-mig", nvmlDeviceGetCurrentClocksEventReasons=0x20 | 0x8)
    asked = driver(tmp_path, replay)
    asked.read(100.0)  # it learns which fields the driver does not know
    values = values_of(asked.read(101.0))
    assert values["held_software_thermal_percent"] == values["held_hardware_slowdown_percent"] == 100
    assert values["held_power_brake_percent"] is None  # it has a counter, which did not answer
    replay.calls["nvmlDeviceGetCurrentClocksEventReasons"] = 0
    assert values_of(asked.read(102.0))["held_software_thermal_percent"] == 0


def test_a_byte_counter_that_wraps_is_unknown_for_that_second(tmp_path: Path) -> None:
    replay = Replay("rtx-3080")
    asked = driver(tmp_path, replay)
    asked.read(100.0)
    replay.fields["NVML_FI_DEV_PCIE_COUNT_TX_BYTES"] = 5
    assert values_of(asked.read(101.0))["pcie_transmit_bytes_per_s"] is None
    replay.fields["NVML_FI_DEV_PCIE_COUNT_TX_BYTES"] = 1005
    assert values_of(asked.read(102.0))["pcie_transmit_bytes_per_s"] == 1000


@pytest.mark.parametrize("code", ["GPU_IS_LOST", "UNINITIALIZED", "DRIVER_NOT_LOADED"])
def test_a_lost_driver_is_said_and_found_again_after_a_minute(tmp_path: Path, code: str) -> None:
    replay = Replay("rtx-3080")
    asked = driver(tmp_path, replay)
    asked.read(100.0)
    before, replay.calls["nvmlDeviceGetPowerUsage"] = replay.calls["nvmlDeviceGetPowerUsage"], code
    lost = asked.read(101.0)
    assert "lost" in lost.state["gpus:nvidia"]["reason"]
    assert lost.values == {}
    replay.calls["nvmlDeviceGetPowerUsage"] = before
    assert asked.read(102.0).values == {}
    assert values_of(asked.read(161.0))["util_percent"] == 65
    assert replay.n_init == 2


def test_a_card_that_answers_nothing_is_looked_for_anew(tmp_path: Path) -> None:
    replay = Replay("rtx-3080")
    replay.calls, replay.fields = {}, {}
    reading = driver(tmp_path, replay).read(100.0)
    assert reading.state["gpus:nvidia"]["reason"] == "the NVIDIA driver is lost: no call is answered"


def test_a_sleeping_card_is_not_woken(tmp_path: Path) -> None:
    device = add_card(tmp_path, status="suspended")
    replay = Replay("rtx-3080")
    asked = driver(tmp_path, replay)
    assert "sleeps" in asked.read(100.0).state["gpus:nvidia"]["reason"]
    assert (replay.n_init, replay.asked) == (0, [])
    (device / "power/runtime_status").write_text("active\n")
    assert values_of(asked.read(101.0))["util_percent"] == 65
    (device / "power/runtime_status").write_text("suspended\n")
    replay.asked.clear()
    reading = asked.read(102.0)
    assert gpu_of(reading)["missing"] == {"all": "the card sleeps and is not woken"}
    assert (reading.values, replay.asked) == ({}, [])


def test_of_two_cards_only_the_one_that_is_awake_is_asked(tmp_path: Path) -> None:
    add_card(tmp_path, "0000:01:00.0", "suspended")
    add_card(tmp_path, "0000:41:00.0")
    replay = Replay("rtx-3080")
    reading = driver(tmp_path, replay).read(100.0)
    sleeping, awake = reading.state["gpus:nvidia"]["gpus"]
    assert (sleeping["index"], awake["index"]) == (0, 1)
    assert {each for each in replay.asked if each.startswith("handle")} == {"handle 0000:41:00.0"}
    assert {name.partition("{")[2] for name in reading.values} == {"gpu=1}"}


def test_without_a_driver_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_library_is_there", lambda: False)
    none_there = driver(tmp_path, None).read(100.0).state["gpus:nvidia"]["reason"]
    assert none_there == "no NVIDIA driver (libnvidia-ml.so.1) on this machine"
    add_card(tmp_path)
    with_card = driver(tmp_path, None).read(100.0).state["gpus:nvidia"]["reason"]
    assert with_card == "an NVIDIA GPU is there, but not its driver (libnvidia-ml.so.1)"


def test_a_driver_call_that_hangs_delays_no_sample(tmp_path: Path) -> None:
    replay = Replay("rtx-3080")
    reader = Nvidia(Roots(proc=tmp_path, sys=tmp_path), replay)
    reader.wait_for_first(10)
    first = reader.read(reader._poller._found[0])  # type: ignore[index]
    assert first.values["gpu_util_percent{gpu=0}"] == 65
    replay.hang = threading.Event()
    n = len(replay.asked)
    wait_for(lambda: len(replay.asked) > n, "a call hangs", 10)
    answered = reader._poller._found[0]  # type: ignore[index]
    assert reader.read(answered + 2).values == first.values  # the last answer, for a while
    late = reader.read(answered + 30)
    assert late.values == {}
    assert late.state["gpus:nvidia"]["reason"] == "the NVIDIA driver has not answered for 30 s"
    replay.hang.set()
    reader.close()


@given(st.integers(0, 2**64 - 1))
def test_every_bit_of_the_throttle_reasons_has_a_name(bits: int) -> None:
    names = nvml.held_back_by(bits)
    assert names is not None
    by_name = {name: bit for bit, name in nvml.HELD_BACK.items()}
    assert sum(by_name.get(name) or int(name, 16) for name in names) == bits & ~nvml.IDLE_BIT
    assert nvml.held_back_by(None) is None
