"""Readers on recorded trees of /proc and sysfs, on NVML answers, and on this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.readers.amd import Amd
from monitoring.readers.base import ProcFile, Rates, Reader, Roots
from monitoring.readers.cpu import Cpu
from monitoring.readers.disks import Disks
from monitoring.readers.memory import Memory
from monitoring.readers.network import Network
from monitoring.readers.other_gpus import OtherGpus
from monitoring.readers.pressure import Pressure
from monitoring.readers.processes import Processes
from monitoring.readers.temperatures import Temperatures
from tests.product import BASE_DIR

RECORDED = Path(__file__).with_name("recorded") / "vm-2-cores"


def roots(folder: Path) -> Roots:
    return Roots(proc=folder / "proc", sys=folder / "sys")


def read_twice(kind: type[Reader], tmp_path: Path) -> dict[str, float | None]:
    """The values of the second reading, a second after the first."""
    live = tmp_path / "live"
    shutil.copytree(RECORDED / "first", live)
    reader = kind(roots(live))
    first = reader.read(100.0)
    assert all(value is None or value >= 0 for value in first.values.values())
    for path in (RECORDED / "second").rglob("*"):
        if path.is_file():
            (live / path.relative_to(RECORDED / "second")).write_bytes(path.read_bytes())
    values = reader.read(101.0).values
    reader.close()
    return values


def ticks(moment: str, name: str) -> list[int]:
    line = next(
        line
        for line in (RECORDED / moment / "proc/stat").read_text().split("\n")
        if line.startswith(f"{name} ")
    )
    return [int(each) for each in line.split()[1:9]]


def test_cpu_shares_are_those_of_the_ticks_between(tmp_path: Path) -> None:
    values = read_twice(Cpu, tmp_path)
    spent = [b - a for a, b in zip(ticks("first", "cpu"), ticks("second", "cpu"), strict=True)]
    assert values["cpu_percent"] == pytest.approx(100 * (sum(spent) - spent[3] - spent[4]) / sum(spent))
    assert values["cpu_iowait_percent"] == pytest.approx(100 * spent[4] / sum(spent))
    assert {"cpu_core_percent{core=0}", "cpu_core_percent{core=1}"} <= set(values)
    assert values["cpu_frequency_mhz"] is None  # the recorded machine shows none: unknown, not 0
    assert values["load1"] == float((RECORDED / "second/proc/loadavg").read_text().split()[0])


def test_memory_counts_what_is_not_available_as_used(tmp_path: Path) -> None:
    values = read_twice(Memory, tmp_path)
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in (RECORDED / "second/proc/meminfo").read_text().strip().split("\n")
    }
    assert values["memory_used_bytes"] == (kib["MemTotal"] - kib["MemAvailable"]) * 1024
    assert values["memory_used_percent"] == pytest.approx(100 * (1 - kib["MemAvailable"] / kib["MemTotal"]))
    assert values["swap_in_bytes_per_s"] == 0


def test_pressure_is_the_second_s_own_share(tmp_path: Path) -> None:
    values = read_twice(Pressure, tmp_path)
    totals = [
        int((RECORDED / moment / "proc/pressure/cpu").read_text().split("\n")[0].rpartition("total=")[2])
        for moment in ("first", "second")
    ]
    assert values["pressure_cpu_some_percent"] == pytest.approx((totals[1] - totals[0]) / 1e4)


def test_disks_and_network_are_rates_per_device(tmp_path: Path) -> None:
    disks = read_twice(Disks, tmp_path)
    assert disks["disk_read_bytes_per_s{device=vda}"] is not None
    assert 0 <= (disks["disk_util_percent{device=vda}"] or 0) <= 100
    assert not any("loop" in name for name in disks)
    shutil.rmtree(tmp_path / "live")
    network = read_twice(Network, tmp_path)
    assert not any("interface=lo}" in name for name in network)
    assert any(name.startswith("network_receive_bytes_per_s") for name in network)


def test_the_inner_ends_of_containers_and_guests_are_no_interfaces_of_the_host(tmp_path: Path) -> None:
    names = ["lo", "eth0", "wg0", "veth1a2b", "cali0f9", "vnet3", "fwbr100i0", "docker0"]
    (tmp_path / "proc/net").mkdir(parents=True)
    lines = [f"{name}: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n" for name in names]
    (tmp_path / "proc/net/dev").write_text("head\nhead\n" + "".join(lines))
    reader = Network(roots(tmp_path))
    values = reader.read(1.0).values
    reader.close()
    assert {name.partition("=")[2] for name in values if "{" in name} == {"eth0}", "wg0}"}


def machine_traffic(folder: Path, interfaces: dict[str, str]) -> dict[str, float | None]:
    """Of one whose interfaces each took in 1000 bytes in a second and sent 2000; name -> what sysfs has of it."""
    (folder / "proc/net").mkdir(parents=True)
    for name, kind in interfaces.items():
        (folder / "sys/class/net" / name / kind).mkdir(parents=True)
        (folder / "sys/class/net" / name / "type").write_text("65534\n" if kind == "tun_flags" else "1\n")
    reader = Network(roots(folder))
    for second in (1, 2):
        lines = [
            f"{name}: {second * 1000} 1 0 0 0 0 0 0 {second * 2000} 1 0 0 0 0 0 0\n" for name in interfaces
        ]
        (folder / "proc/net/dev").write_text("head\nhead\n" + "".join(lines))
        values = reader.read(float(second)).values
    reader.close()
    assert len(values) == 2 * len(interfaces) + 2
    return {name: value for name, value in values.items() if "total" in name}


@pytest.mark.parametrize(
    ("interfaces", "n"),
    [
        ({"enp1s0": "device", "enp2s0": "device", "bond0": "lower_enp1s0", "bond0.10": "lower_bond0", "br0": "lower_bond0",
          "wg0": "queues", "tun0": "tun_flags", "ifb0": "queues"}, 2),
        ({"eth0": "queues", "tun0": "tun_flags", "eth0.5": "lower_eth0"}, 1),  # a container: nothing has a device
        ({"tun0": "tun_flags"}, 0),
    ],
)  # fmt: skip
def test_what_a_bond_a_vlan_or_a_vpn_carries_counts_once(
    tmp_path: Path, interfaces: dict[str, str], n: int
) -> None:
    assert machine_traffic(tmp_path, interfaces) == {
        "network_total_receive_bytes_per_s": n * 1000.0 or None,
        "network_total_transmit_bytes_per_s": n * 2000.0 or None,
    }


def test_a_list_longer_than_a_page_is_read_whole() -> None:
    """The kernel hands most lists out a page at a time, which no recorded file does."""
    file = ProcFile(Path("/proc/self/smaps"), 2**24)
    found, again, whole = file.read(), file.read(), Path("/proc/self/smaps").read_bytes()
    file.close()
    assert min(len(found), len(again)) > len(whole) / 2 > os.sysconf("SC_PAGE_SIZE")


def test_a_file_system_is_told_by_its_name_in_any_letters_and_no_file_stays_open(tmp_path: Path) -> None:
    mount = tmp_path / "Bücher und = \\ mehr"
    mount.mkdir()
    escaped = os.fsencode(mount).replace(b"\\", b"\\134").replace(b" ", b"\\040")
    mounts = tmp_path / "proc/self/mounts"
    mounts.parent.mkdir(parents=True)
    mounts.write_bytes(b"/dev/sdb1 " + escaped + b" ext4 rw,relatime 0 0\n")
    reader = Disks(roots(tmp_path))
    values = reader.read(0.0).values
    reader.close()
    assert str(mounts) not in {each.path for each in psutil.Process().open_files()}
    (name,) = (each for each in values if each.startswith("disk_used_percent"))
    assert name.endswith("Bücher und _ \\ mehr}")


@pytest.mark.parametrize("kind", [Cpu, Memory, Pressure, Disks, Network, Temperatures, Amd, Processes])
def test_an_empty_machine_gives_unknown_and_never_an_error(kind: type[Reader], tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    reader = kind(roots(tmp_path))
    for now in (1.0, 2.0):
        values = reader.read(now).values
        assert all(value is None for name, value in values.items() if "mount=" not in name)
    reader.close()


@pytest.mark.parametrize(
    ("name", "command", "told"),
    [
        ("python3.11", "/usr/bin/python3.11 -m inference.gateway --port 1", "python3.11 inference.gateway"),
        ("python", "python manage.py collect", "python manage.py"),
        ("bash", "bash -c TOKEN=secret", "bash"),
        ("sh", "sh", "sh"),
        ("java", "java -jar /opt/app.jar --password secret", "java app.jar"),
        ("ollama", "ollama serve", "ollama"),
    ],
)
def test_a_process_is_told_by_what_it_runs_and_never_by_its_other_arguments(
    name: str, command: str, told: str, tmp_path: Path
) -> None:
    process = tmp_path / "proc/7"
    write(process, cmdline="")
    (process / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
    reader = Processes(roots(tmp_path))
    for now in (1.0, 2.0):
        write(process, stat=f"7 ({name}) S " + "1 " * 50)
        reading = reader.read(now)
    assert [each["name"] for each in reading.state["top"]] == [told]


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def test_an_amd_card_is_read_from_sysfs_and_what_is_missing_is_named(tmp_path: Path) -> None:
    card = tmp_path / "sys/class/drm/card0/device"
    write(card, vendor="0x1002", device="0x744c", gpu_busy_percent=37, mem_info_vram_used=2**30)
    write(card, mem_info_vram_total=24 * 2**30, mem_info_gtt_used=2**20, mem_info_gtt_total=2**34)
    write(card, mem_busy_percent="busy")
    hwmon = card / "hwmon/hwmon3"
    write(hwmon, power1_input=87_000_000, temp1_input=54_000, temp2_input=66_000, freq1_input=2_300_000_000)
    (hwmon / "fan1_input").mkdir()  # what can't be read for another reason than being away
    write(tmp_path / "sys/class/drm/card1/device", vendor="0x8086")  # an Intel card is not ours
    reading = Amd(roots(tmp_path)).read(0.0)
    values = {name.removesuffix("{gpu=100}"): value for name, value in reading.values.items()}
    assert {name: value for name, value in values.items() if value is not None} == {
        "gpu_util_percent": 37,
        "gpu_memory_used_bytes": 2**30,
        "gpu_memory_total_bytes": 24 * 2**30,
        "gpu_gtt_used_bytes": 2**20,
        "gpu_gtt_total_bytes": 2**34,
        "gpu_power_w": 87,
        "gpu_temperature_celsius": 54,
        "gpu_hotspot_temperature_celsius": 66,
        "gpu_clock_mhz": 2300,
    }
    (gpu,) = reading.state["gpus:amd"]["gpus"]
    assert gpu["missing"] == {
        "memory_busy_percent": "mem_busy_percent holds no number",
        "power_limit_w": "not offered by the driver for this card",
        "memory_temperature_celsius": "not offered by the driver for this card",
        "memory_clock_mhz": "not offered by the driver for this card",
        "fan_rpm": "fan1_input can't be read: Is a directory",
    }


def test_a_sleeping_amd_card_is_not_asked(tmp_path: Path) -> None:
    card = tmp_path / "sys/class/drm/card0/device"
    write(card, vendor="0x1002", gpu_busy_percent=37)
    write(card / "power", runtime_status="suspended")
    reading = Amd(roots(tmp_path)).read(0.0)
    assert reading.values["gpu_util_percent{gpu=100}"] is None
    assert "sleeps" in reading.state["gpus:amd"]["gpus"][0]["missing"]["util_percent"]


def test_a_gpu_without_a_reader_is_named(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/drm/card0/device", vendor="0x8086")
    write(tmp_path / "sys/class/drm/card1/device", uevent="DRIVER=asahi\nOF_NAME=gpu")
    write(tmp_path / "sys/class/drm/card2/device", vendor="0x1002")
    reason = OtherGpus(roots(tmp_path)).read(0.0).state["gpus:other"]["reason"]
    assert reason == "Apple GPU: there is no reader for it; Intel GPU: there is no reader for it"


def test_sensors_have_names_and_nvme_is_asked_once_a_minute(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon/hwmon0", name="k10temp", temp1_input=41_500, temp1_label="Tctl")
    nvme = tmp_path / "sys/class/hwmon/hwmon1"
    write(nvme, name="nvme", temp1_input=38_000)
    reader = Temperatures(roots(tmp_path))
    first = reader.read(0.0).values
    assert first == {
        "temperature_celsius{sensor=k10temp Tctl}": 41.5,
        "temperature_celsius{sensor=nvme}": 38.0,
    }
    write(nvme, temp1_input=60_000)
    assert reader.read(30.0).values["temperature_celsius{sensor=nvme}"] == 38.0
    assert reader.read(61.0).values["temperature_celsius{sensor=nvme}"] == 60.0


@given(st.lists(st.integers(0, 10**12), min_size=2), st.integers(1, 5))
def test_a_rate_is_never_negative(counters: list[int], step: int) -> None:
    rates = Rates()
    for number, counter in enumerate(counters):
        found = rates.per_s("x", counter, float(number * step))
        assert found is None or found >= 0
        assert (found is None) == (number == 0 or counter < counters[number - 1])


def test_one_sample_of_this_machine_by_the_command() -> None:
    command = [sys.executable, "manage.py", "collect", "--once", "--json"]
    sample = json.loads(subprocess.run(command, cwd=BASE_DIR, capture_output=True, check=True).stdout)
    assert 0 <= sample["v"]["cpu_percent"] <= 100
    assert 0 < sample["v"]["memory_used_bytes"] < sample["v"]["memory_total_bytes"]
    assert sample["state"]["cpu"]["n_threads"] >= 1
    assert sample["state"]["gpus"] or sample["state"]["gpu_reason"]


def test_an_unknown_reader_is_refused_by_name() -> None:
    command = [sys.executable, "manage.py", "collect", "--once", "--readers", "cpu,nope"]
    ended = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "no reader is called nope" in ended.stderr
